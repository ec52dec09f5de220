"""A stained white blood cell among red ones."""

import numpy as np

from mucald.data.images.phantoms.canvas import (
    Image,
    Mask,
    canvas,
    ellipse,
    finish,
    irregular,
    paint,
    smooth_noise,
    soft,
)

CYTOPLASM, NUCLEUS = 1, 2


def draw_blood_cell(rng: np.random.Generator, size: int) -> tuple[Image, Mask]:
    """Draw a white cell whose nucleus has one to four lobes; lobed nuclei are smaller and stain darker."""
    centre, radius = (rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15)), rng.uniform(0.42, 0.68)
    cell = irregular(rng, size, centre, (radius, radius * rng.uniform(0.85, 1)), rng.uniform(0, np.pi), 0.03)
    lobes = int(rng.integers(1, 5))
    lobe_radius = radius * rng.uniform(0.95, 1.1) * (0.68, 0.47, 0.38, 0.34)[lobes - 1]
    ring = 0.0 if lobes == 1 else radius * 0.42
    turn, nucleus = rng.uniform(0, 2 * np.pi), np.full((size, size), -np.inf)
    for angle in turn + np.arange(lobes) * 1.35:
        where = (centre[0] + ring * np.cos(angle), centre[1] + ring * np.sin(angle))
        axes = (lobe_radius, lobe_radius * rng.uniform(0.75, 1))
        nucleus = np.maximum(nucleus, irregular(rng, size, where, axes, rng.uniform(0, np.pi), 0.05))
    nucleus = np.minimum(nucleus, cell - 0.02)
    mask = np.zeros((size, size), np.uint8)
    mask[cell > 0], mask[nucleus > 0] = CYTOPLASM, NUCLEUS

    warm = rng.uniform(0, 1)
    image = canvas(size, (232, 216 + 6 * warm, 214 - 50 * warm))
    for _ in range(rng.integers(2, 7)):
        direction, distance = rng.uniform(0, 2 * np.pi), radius + rng.uniform(0.2, 0.55)
        spot = (centre[0] + distance * np.cos(direction), centre[1] + distance * np.sin(direction))
        red = ellipse(size, spot, (0.27, rng.uniform(0.22, 0.27)), rng.uniform(0, np.pi))
        paint(image, 0.7 * soft(red, 0.03) * (1 - 0.45 * soft(red - 0.12, 0.08)), (204, 160, 178))
    stain = rng.uniform(0.25, 0.9)
    plasma = np.array((206, 180, 204)) + 9 * smooth_noise(rng, size, 18)[..., None]
    paint(image, stain * soft(cell, rng.uniform(0.02, 0.06)), plasma)
    chromatin = np.array((128.0, 78.0, 150.0)) - 9 * lobes + 15 * smooth_noise(rng, size, 12)[..., None]
    paint(image, (0.2 + 0.7 * stain) * soft(nucleus, rng.uniform(0.02, 0.06)), chromatin)
    image += 6 * smooth_noise(rng, size, 3)[..., None]
    return finish(rng, image, 8.0), mask
