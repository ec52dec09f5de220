"""MR of the head in four sequences (T1, T1 with contrast agent, T2, FLAIR) with a brain tumour."""

from enum import IntEnum

import numpy as np

from mucald.data.volumes.phantoms.canvas import Shape, ball, place_in, smooth_noise
from mucald.data.volumes.phantoms.scene import Scene, table_of


class Part(IntEnum):
    """What the head consists of."""

    AIR, SCALP, SKULL, FLUID, GREY, WHITE, VESSEL, SPOT, OEDEMA, CORE, ENHANCING = range(11)


_INTENSITIES: dict[Part, tuple[float, ...]] = {
    Part.AIR: (0.02, 0.02, 0.02, 0.02),
    Part.SCALP: (0.85, 0.9, 0.7, 0.65),
    Part.SKULL: (0.1, 0.1, 0.08, 0.08),
    Part.FLUID: (0.2, 0.2, 0.98, 0.15),
    Part.GREY: (0.45, 0.48, 0.6, 0.58),
    Part.WHITE: (0.62, 0.65, 0.45, 0.45),
    Part.VESSEL: (0.5, 0.95, 0.5, 0.5),
    Part.SPOT: (0.5, 0.52, 0.72, 0.85),
    Part.OEDEMA: (0.42, 0.45, 0.8, 0.88),
    Part.CORE: (0.33, 0.38, 0.72, 0.62),
    Part.ENHANCING: (0.42, 0.92, 0.68, 0.7),
}


def draw_brain(rng: np.random.Generator, shape: Shape, label: int) -> Scene:  # noqa: ARG001 - one signature
    """Draw a brain with a tumour; vessels enhance too, and old spots are as bright as oedema."""
    tissue = np.zeros(shape, dtype=np.uint8)
    radii = (rng.uniform(0.76, 0.84), rng.uniform(0.86, 0.94), rng.uniform(0.86, 0.96))
    head = ball(shape, (0, 0, 0), radii)
    for depth, part in ((0.0, Part.SCALP), (0.07, Part.SKULL), (0.14, Part.FLUID)):
        tissue[head > depth] = part
    brain = head - 0.18 + 0.03 * smooth_noise(rng, shape, 12)
    tissue[brain > 0] = Part.GREY
    tissue[brain + 0.08 * smooth_noise(rng, shape, 8) > 0.14] = Part.WHITE
    for side in (-1, 1):
        nucleus = ball(shape, (side * 0.2, 0.05, -0.05), (0.14, 0.2, 0.2))
        tissue[nucleus > 0] = Part.GREY
        ventricle = ball(shape, (side * 0.11, 0.0, 0.12), (0.08, rng.uniform(0.28, 0.42), 0.2))
        tissue[ventricle + 0.1 * smooth_noise(rng, shape, 6) > 0] = Part.FLUID
    branches = np.abs(smooth_noise(rng, shape, 6)) + np.abs(smooth_noise(rng, shape, 6)) < 0.16
    tissue[branches & (brain > 0)] = Part.VESSEL
    for _ in range(rng.integers(0, 4)):
        tissue[(ball(shape, place_in(rng, brain, 0.15), (0.08,) * 3) > 0) & (brain > 0)] = Part.SPOT

    at, radius = np.array(place_in(rng, brain, 0.2)), rng.uniform(0.2, 0.32)
    oedema = ball(shape, tuple(at), (1.6 * radius,) * 3) + 0.28 * smooth_noise(rng, shape, 5)
    tumour = ball(shape, tuple(at + rng.uniform(-0.06, 0.06, 3)), (radius,) * 3)
    tumour = tumour + 0.18 * smooth_noise(rng, shape, 7)
    tissue[(oedema > 0) & (brain > 0.02)] = Part.OEDEMA
    tissue[(tumour > 0) & (brain > 0)] = Part.ENHANCING
    necrotic = tumour > rng.uniform(0.25, 0.5) + 0.12 * smooth_noise(rng, shape, 8)
    tissue[necrotic & (tumour > 0) & (brain > 0)] = Part.CORE
    table = table_of(_INTENSITIES)
    table = np.clip(table * rng.uniform(0.9, 1.1, table.shape), 0, 1)
    return Scene(tissue, table.astype(np.float32), {1: (Part.OEDEMA,), 2: (Part.CORE,), 3: (Part.ENHANCING,)})
