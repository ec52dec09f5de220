"""Phantoms: drawn images that stand in for a hospital's, one small file per task.

Every drawing function takes a random generator and a size in pixels, and returns an image (uint8, H x W x 3)
and its mask (uint8 class ids, H x W). The same generator state gives the same scene at every size: what
depends on the size, the grain, is drawn last. Scenes follow the task's causal graph loosely (a larger lesion
is less regular, ...), so that there is something for a causal model to find. They look like their modality;
they are no model of it.
"""

from mucald.data.phantoms.blastocyst import draw_blastocyst
from mucald.data.phantoms.blood_cell import draw_blood_cell
from mucald.data.phantoms.lung import draw_lung
from mucald.data.phantoms.polyp import draw_polyp
from mucald.data.phantoms.skin import draw_skin
from mucald.data.phantoms.ultrasound import draw_fetal_head, draw_pelvis

__all__ = [
    "draw_blastocyst",
    "draw_blood_cell",
    "draw_fetal_head",
    "draw_lung",
    "draw_pelvis",
    "draw_polyp",
    "draw_skin",
]
