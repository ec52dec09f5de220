"""CT of the chest: two lungs with nodules; vessels, airways and gas in the stomach distract."""

from enum import IntEnum

import numpy as np

from mucald.data.volumes.phantoms.canvas import Shape, ball, column, place_in, smooth_noise
from mucald.data.volumes.phantoms.scene import Scene, table_of


class Part(IntEnum):
    """What the chest consists of."""

    AIR, FAT, MUSCLE, BONE, HEART, LUNG, VESSEL, AIRWAY, LIVER, NODULE = range(10)


_HU = {
    Part.AIR: -1000,
    Part.FAT: -95,
    Part.MUSCLE: 50,
    Part.BONE: 350,
    Part.HEART: 90,
    Part.LUNG: -810,
    Part.VESSEL: -150,
    Part.AIRWAY: -960,
    Part.LIVER: 100,
    Part.NODULE: -10,
}


def draw_lungs(rng: np.random.Generator, shape: Shape, label: int) -> Scene:  # noqa: ARG001 - one signature
    """Draw two lungs about the heart, with one to four nodules."""
    tissue = np.zeros(shape, dtype=np.uint8)
    body = column(shape, (0, 0), (rng.uniform(0.9, 0.98), rng.uniform(0.68, 0.8)))
    tissue[np.broadcast_to(body > 0, shape)] = Part.FAT
    tissue[np.broadcast_to(body > rng.uniform(0.05, 0.12), shape)] = Part.MUSCLE
    tissue[np.broadcast_to(column(shape, (0, -0.46), (0.11, 0.12)) > 0, shape)] = Part.BONE
    heart = ball(shape, (rng.uniform(-0.2, -0.05), 0.16, -0.3), (0.32, 0.3, 0.55))
    lung = np.full(shape, -1, dtype=np.float32)
    for side in (-1, 1):
        centre = (side * rng.uniform(0.4, 0.46), rng.uniform(-0.06, 0.06), rng.uniform(0, 0.15))
        radii = (rng.uniform(0.28, 0.36), rng.uniform(0.45, 0.56), rng.uniform(0.75, 0.95))
        lung = np.maximum(lung, ball(shape, centre, radii) + 0.07 * smooth_noise(rng, shape, 5))
    dome = ball(shape, (0.4, 0.0, -1.0), (0.45, 0.6, rng.uniform(0.3, 0.6)))
    lung = np.minimum(lung, -np.maximum(heart, dome))
    tissue[heart > 0] = Part.HEART
    tissue[dome > 0] = Part.LIVER
    tissue[ball(shape, (-0.4, 0.15, -0.95), (0.25, 0.22, 0.25)) > 0] = Part.AIRWAY
    tissue[lung > 0] = Part.LUNG
    tissue[(smooth_noise(rng, shape, 11) > 1.9) & (lung > 0.06)] = Part.VESSEL
    tissue[np.broadcast_to(column(shape, (0, -0.1), (0.06, 0.06)) > 0, shape) & (lung <= 0)] = Part.AIRWAY
    for _ in range(rng.integers(1, 5)):
        at, radius = place_in(rng, lung, rng.uniform(0.0, 0.3)), rng.uniform(0.09, 0.18)
        nodule = ball(shape, at, (radius, radius, 1.3 * radius)) + 0.15 * smooth_noise(rng, shape, 9)
        tissue[(nodule > 0) & (lung > 0)] = Part.NODULE
    table = table_of({part: (hu,) for part, hu in _HU.items()})
    table[Part.LUNG] += rng.uniform(-50, 50)
    table[Part.NODULE] += rng.uniform(-60, 60)
    lungs = (Part.LUNG, Part.VESSEL)
    return Scene(tissue, table.astype(np.float32), {1: lungs, 2: (Part.NODULE,)})
