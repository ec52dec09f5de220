"""Phantoms: drawn images that stand in for a hospital's, one small file per task.

Every drawing function takes a random generator and a size in pixels, and returns an image (uint8, H x W x 3)
and its mask (uint8 class ids, H x W). The same generator state gives the same scene at every size: what
depends on the size, the grain, is drawn last. Scenes follow the task's causal graph loosely (a larger lesion
is less regular, ...), so that there is something for a causal model to find. They look like their modality;
they are no model of it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mucald.data.images.phantoms.blastocyst import draw_blastocyst
from mucald.data.images.phantoms.blood_cell import draw_blood_cell
from mucald.data.images.phantoms.lung import draw_lung
from mucald.data.images.phantoms.polyp import draw_polyp
from mucald.data.images.phantoms.skin import draw_skin
from mucald.data.images.phantoms.ultrasound import draw_fetal_head, draw_pelvis

Phantom = Callable[[np.random.Generator, int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Draws an image (uint8, S x S x 3) and its mask (uint8, S x S) of side S."""

PHANTOMS: dict[str, Phantom] = {
    "blastocyst": draw_blastocyst,
    "ham10k": draw_skin,
    "fetal": draw_pelvis,
    "mosmed": draw_lung,
    "kvasir": draw_polyp,
    "wbc": draw_blood_cell,
    "fetal_head": draw_fetal_head,
}
"""What is drawn for each task, by the task's name."""
