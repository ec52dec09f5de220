"""CT of the abdomen: a liver with lesions, kidneys with tumours; other organs of like density distract."""

from enum import IntEnum

import numpy as np

from mucald.data.volumes.phantoms.canvas import (
    Field,
    Shape,
    Tissue,
    ball,
    column,
    grid,
    place_in,
    smooth_noise,
)
from mucald.data.volumes.phantoms.scene import Scene, table_of


class Part(IntEnum):
    """What the abdomen consists of."""

    AIR, FAT, MUSCLE, BONE, AORTA, LIVER, VESSEL, SPLEEN, STOMACH, GAS, KIDNEY, CYST, TUMOUR, NECROSIS = (
        range(14)
    )


_HU = {
    Part.AIR: -1000,
    Part.FAT: -95,
    Part.MUSCLE: 55,
    Part.BONE: 350,
    Part.AORTA: 170,
    Part.LIVER: 108,
    Part.VESSEL: 150,
    Part.SPLEEN: 118,
    Part.STOMACH: 25,
    Part.GAS: -900,
    Part.KIDNEY: 170,
    Part.CYST: 6,
    Part.TUMOUR: 66,
    Part.NECROSIS: 30,
}
_JITTER_HU = 9.0


def draw_liver(rng: np.random.Generator, shape: Shape, label: int) -> Scene:  # noqa: ARG001 - one signature
    """Draw a liver with one to three tumours."""
    tissue, liver = _with_liver(rng, shape)
    for _ in range(rng.integers(1, 4)):
        _tumour(rng, tissue, liver, rng.uniform(0.11, 0.22))
    return _scene(rng, tissue, {1: (Part.LIVER, Part.VESSEL), 2: (Part.TUMOUR, Part.NECROSIS)})


def draw_liver_lesion(rng: np.random.Generator, shape: Shape, label: int) -> Scene:
    """Draw a liver without a lesion (``label`` 0), with a cyst (1), or with a tumour (2)."""
    tissue, liver = _with_liver(rng, shape)
    radius = rng.uniform(0.15, 0.26)
    if label == 1:
        at = place_in(rng, liver, 0.25)
        tissue[(ball(shape, at, (radius,) * 3) > 0) & (liver > 0)] = Part.CYST
    elif label == 2:
        _tumour(rng, tissue, liver, radius)
    return _scene(rng, tissue, {})


def draw_kidneys(rng: np.random.Generator, shape: Shape, label: int) -> Scene:  # noqa: ARG001 - one signature
    """Draw two kidneys, of which one bears a tumour, and perhaps one a cyst, which counts as kidney."""
    tissue = _abdomen(rng, shape)
    liver = ball(shape, (0.5, 0.25, 0.35), (0.38, 0.4, 0.6)) + 0.1 * smooth_noise(rng, shape, 4)
    tissue[liver > 0] = Part.LIVER
    kidneys = []
    for side in (-1, 1):
        centre = (side * rng.uniform(0.4, 0.48), rng.uniform(-0.28, -0.16), rng.uniform(-0.2, 0.1))
        radii = (rng.uniform(0.17, 0.22), rng.uniform(0.19, 0.24), rng.uniform(0.45, 0.6))
        kidney = ball(shape, centre, radii) + 0.1 * smooth_noise(rng, shape, 5)
        pelvis = ball(shape, (centre[0] - side * 0.16, centre[1], centre[2]), (0.13, 0.1, 0.3))
        kidney = np.minimum(kidney, -pelvis)
        tissue[kidney > 0] = Part.KIDNEY
        kidneys.append(kidney)
    ill = int(rng.integers(2))
    _tumour(rng, tissue, kidneys[ill], rng.uniform(0.13, 0.22), least=0.0, within=False)
    if rng.random() < 0.5:
        at = place_in(rng, kidneys[1 - ill], 0.1)
        tissue[(ball(shape, at, (0.12,) * 3) > 0) & (kidneys[1 - ill] > -0.2)] = Part.CYST
    return _scene(rng, tissue, {1: (Part.KIDNEY, Part.CYST), 2: (Part.TUMOUR, Part.NECROSIS)})


def _scene(rng: np.random.Generator, tissue: Tissue, classes: dict[int, tuple[Part, ...]]) -> Scene:
    table = table_of({part: (hu,) for part, hu in _HU.items()})
    soft = np.abs(table) < 220
    table = table + soft * _JITTER_HU * rng.standard_normal(table.shape)
    return Scene(tissue, table.astype(np.float32), classes)


def _abdomen(rng: np.random.Generator, shape: Shape) -> Tissue:
    tissue = np.zeros(shape, dtype=np.uint8)
    wide, deep = rng.uniform(0.88, 0.97), rng.uniform(0.66, 0.8)
    body = column(shape, (0, 0), (wide, deep))
    tissue[np.broadcast_to(body > 0, shape)] = Part.FAT
    tissue[np.broadcast_to(body > rng.uniform(0.06, 0.16), shape)] = Part.MUSCLE
    tissue[np.broadcast_to(body > 0.24, shape) & (smooth_noise(rng, shape, 6) > 0.3)] = Part.FAT
    tissue[np.broadcast_to(column(shape, (0, -0.42), (0.12, 0.13)) > 0, shape)] = Part.BONE
    tissue[np.broadcast_to(column(shape, (-0.07, -0.22), (0.06, 0.06)) > 0, shape)] = Part.AORTA
    spleen = ball(shape, (-0.58, -0.12, rng.uniform(0.1, 0.4)), (0.19, 0.26, 0.38))
    tissue[spleen + 0.08 * smooth_noise(rng, shape, 5) > 0] = Part.SPLEEN
    stomach = ball(shape, (-0.32, 0.32, rng.uniform(0.2, 0.5)), (0.26, 0.2, 0.3))
    tissue[stomach > 0] = Part.STOMACH
    # Gas rises to the front of who lies on the back.
    tissue[(stomach > 0) & (grid(shape)[1] > rng.uniform(0.32, 0.45))] = Part.GAS
    return tissue


def _with_liver(rng: np.random.Generator, shape: Shape) -> tuple[Tissue, Field]:
    tissue = _abdomen(rng, shape)
    for side in (-1, 1):
        tissue[ball(shape, (side * 0.42, -0.32, -0.7), (0.16, 0.18, 0.4)) > 0] = Part.KIDNEY
    centre = (rng.uniform(0.3, 0.42), rng.uniform(0.0, 0.15), rng.uniform(-0.1, 0.25))
    radii = (rng.uniform(0.42, 0.55), rng.uniform(0.42, 0.52), rng.uniform(0.6, 0.8))
    liver = ball(shape, centre, radii) + 0.13 * smooth_noise(rng, shape, 4)
    liver = np.where(np.isin(tissue, (Part.FAT, Part.MUSCLE)), liver, np.float32(-1))
    tissue[liver > 0] = Part.LIVER
    branches = np.abs(smooth_noise(rng, shape, 5)) + np.abs(smooth_noise(rng, shape, 5)) < 0.22
    tissue[branches & (liver > 0.12)] = Part.VESSEL
    return tissue, liver


def _tumour(
    rng: np.random.Generator,
    tissue: Tissue,
    organ: Field,
    radius: float,
    least: float = 0.2,
    within: bool = True,
) -> None:
    """Put an irregular tumour, necrotic inside where it is large, at a place so deep in an organ."""
    at = place_in(rng, organ, least)
    tumour = ball(tissue.shape, at, (radius, radius, 1.3 * radius)) + 0.18 * smooth_noise(
        rng, tissue.shape, 8
    )
    inside = tumour > 0
    if within:
        inside &= organ > 0
    tissue[inside] = Part.TUMOUR
    if radius > 0.17:
        tissue[inside & (tumour > 0.55)] = Part.NECROSIS
