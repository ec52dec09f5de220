"""Phantoms: drawn volumes that stand in for a hospital's.

A drawing function takes a random generator, a shape and the class that a volume of a classification task
shall have, and returns the anatomy; the site's device then looks at it. They look like their modality; they
are no model of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mucald.data.volumes.phantoms.abdomen import draw_kidneys, draw_liver, draw_liver_lesion
from mucald.data.volumes.phantoms.brain import draw_brain
from mucald.data.volumes.phantoms.canvas import Shape
from mucald.data.volumes.phantoms.chest import draw_lungs
from mucald.data.volumes.phantoms.heart import draw_diseased_heart, draw_heart
from mucald.data.volumes.phantoms.scene import Scene


@dataclass(frozen=True)
class Phantom:
    """What is drawn for a task.

    Args:
        draw: draws the anatomy.
        intensity: how its values are normalised where the job has no plan, see
            :class:`mucald.config.common.VolumePlan`.
    """

    draw: Callable[[np.random.Generator, Shape, int], Scene]
    intensity: tuple[float, ...] = ()


SHAPE: Shape = (48, 48, 32)
"""Of a volume, where nothing else is asked for."""

_ABDOMEN = (-160.0, 240.0, 40.0, 90.0)
_CHEST = (-1000.0, 300.0, -400.0, 420.0)

PHANTOMS: dict[str, Phantom] = {
    "liver": Phantom(draw_liver, _ABDOMEN),
    "lungs": Phantom(draw_lungs, _CHEST),
    "kidneys": Phantom(draw_kidneys, _ABDOMEN),
    "heart": Phantom(draw_heart),
    "brain": Phantom(draw_brain),
    "heart_pathology": Phantom(draw_diseased_heart),
    "liver_lesion": Phantom(draw_liver_lesion, _ABDOMEN),
}
"""What is drawn for each task, by the task's name."""
