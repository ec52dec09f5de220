"""Phantoms: drawn images that stand in for a hospital's, one small file per task.

Every drawing function takes a random generator and a size in pixels, and returns an image (uint8, H x W x 3)
and its mask (uint8 class ids, H x W). The same generator state gives the same scene at every size: what
depends on the size, the grain, is drawn last. Scenes follow the task's causal graph loosely (a larger lesion
is less regular, ...), so that there is something for a causal model to find. They look like their modality;
they are no model of it.
"""

from mucald.data.images.phantoms.blastocyst import draw_blastocyst
from mucald.data.images.phantoms.blood_cell import draw_blood_cell
from mucald.data.images.phantoms.lung import draw_lung
from mucald.data.images.phantoms.polyp import draw_polyp
from mucald.data.images.phantoms.skin import draw_skin
from mucald.data.images.phantoms.ultrasound import draw_fetal_head, draw_pelvis

__all__ = [
    "draw_blastocyst",
    "draw_blood_cell",
    "draw_fetal_head",
    "draw_lung",
    "draw_pelvis",
    "draw_polyp",
    "draw_skin",
]
