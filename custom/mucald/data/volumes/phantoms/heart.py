"""Short-axis MR of the heart: both ventricles and the myocardium, as different diseases change them."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from mucald.data.volumes.phantoms.canvas import Shape, ball, column, grid, smooth_noise
from mucald.data.volumes.phantoms.scene import Scene, table_of


class Part(IntEnum):
    """What the chest consists of."""

    AIR, FAT, MUSCLE, LUNG, LIVER, RIGHT, WALL, SCAR, LEFT, PAPILLARY = range(10)


_INTENSITIES = {
    Part.AIR: 0.02,
    Part.FAT: 0.92,
    Part.MUSCLE: 0.42,
    Part.LUNG: 0.1,
    Part.LIVER: 0.5,
    Part.RIGHT: 0.76,
    Part.WALL: 0.36,
    Part.SCAR: 0.52,
    Part.LEFT: 0.82,
    Part.PAPILLARY: 0.45,
}


@dataclass(frozen=True)
class _Kind:
    """Radius of the left cavity, thickness of its wall, size of the right one, and whether it has a scar."""

    cavity: float
    wall: float
    right: float = 1.0
    scar: bool = False


_KINDS = (
    _Kind(0.24, 0.10),  # NOR
    _Kind(0.34, 0.08),  # DCM
    _Kind(0.18, 0.18),  # HCM
    _Kind(0.28, 0.10, scar=True),  # MINF
    _Kind(0.22, 0.10, right=1.5),  # RV
)
"""In the order of the classes of the task ``heart_pathology``; after ACDC's definitions, coarsely."""


def draw_heart(rng: np.random.Generator, shape: Shape, label: int) -> Scene:  # noqa: ARG001 - one signature
    """Draw a heart of any kind."""
    return draw_diseased_heart(rng, shape, int(rng.integers(len(_KINDS))))


def draw_diseased_heart(rng: np.random.Generator, shape: Shape, label: int) -> Scene:
    """Draw a heart with the disease ``label``."""
    kind, size = _KINDS[label], rng.uniform(0.9, 1.1)
    tissue = np.zeros(shape, dtype=np.uint8)
    body = column(shape, (0, 0), (rng.uniform(0.92, 1.1), rng.uniform(0.8, 1.0)))
    tissue[np.broadcast_to(body > 0, shape)] = Part.FAT
    tissue[np.broadcast_to(body > rng.uniform(0.06, 0.15), shape)] = Part.MUSCLE
    for side in (-1, 1):
        lung = ball(shape, (side * 0.62, rng.uniform(-0.15, 0.1), 0), (0.38, 0.55, 1.4))
        tissue[lung + 0.06 * smooth_noise(rng, shape, 5) > 0] = Part.LUNG
    tissue[ball(shape, (0.5, 0.2, -1.0), (0.5, 0.5, 0.5)) + 0.05 * smooth_noise(rng, shape, 5) > 0] = (
        Part.LIVER
    )

    x, y, z = grid(shape)
    centre = np.array([rng.uniform(-0.3, -0.12), rng.uniform(-0.02, 0.16)])
    tilt = rng.uniform(-0.12, 0.12, 2)
    dx, dy = x - (centre[0] + tilt[0] * z), y - (centre[1] + tilt[1] * z)
    radius, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    # A half ellipsoid: wide at the base above, closed at the apex below.
    base, apex = rng.uniform(0.55, 0.75), rng.uniform(-0.85, -0.7)
    along = np.clip((base - z) / (base - apex), 0, 1)
    taper = np.sqrt(np.clip(1 - along**2.5, 0, 1)) * (z < base)
    wobble = 1 + 0.06 * smooth_noise(rng, shape, 5)
    cavity = size * kind.cavity * rng.uniform(0.92, 1.08) * taper * wobble
    wall = size * kind.wall * rng.uniform(0.9, 1.1) * np.sqrt(taper) * np.ones(shape)
    scar_at = rng.uniform(-np.pi, np.pi)
    sector = np.cos(angle - scar_at) > 0.45
    if kind.scar:
        wall = np.where(sector, 0.55 * wall, wall)
    outside = cavity + wall

    share = size * kind.right * rng.uniform(0.92, 1.08)
    right = ball(
        shape, (centre[0] + 0.16 + 0.24 * share, centre[1] + 0.06, 0.1), (0.3 * share, 0.36 * share, 0.78)
    )
    right = (right + 0.08 * smooth_noise(rng, shape, 5) > 0) & (radius > outside) & (z < base)
    tissue[(radius < outside + 0.06) & (z < base)] = Part.FAT
    tissue[right] = Part.RIGHT
    tissue[(radius < outside) & (taper > 0)] = Part.WALL
    if kind.scar:
        tissue[(radius < outside) & sector & (taper > 0)] = Part.SCAR
    tissue[radius < cavity] = Part.LEFT
    for at in rng.uniform(-np.pi, np.pi, 2):
        muscle = np.hypot(dx - 0.7 * cavity * np.cos(at), dy - 0.7 * cavity * np.sin(at)) < 0.18 * cavity
        tissue[muscle & (radius < cavity)] = Part.PAPILLARY
    table = table_of({part: (value,) for part, value in _INTENSITIES.items()})
    table = np.clip(table * rng.uniform(0.88, 1.12, table.shape), 0, 1)
    classes = {1: (Part.RIGHT,), 2: (Part.WALL, Part.SCAR), 3: (Part.LEFT, Part.PAPILLARY)}
    return Scene(tissue, table.astype(np.float32), classes)
