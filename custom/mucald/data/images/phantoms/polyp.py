"""A polyp of the colon seen through the endoscope."""

import numpy as np

from mucald.data.images.phantoms.canvas import (
    Field,
    Image,
    Mask,
    canvas,
    ellipse,
    finish,
    grid,
    irregular,
    paint,
    polar,
    smooth_noise,
    soft,
)


def draw_polyp(rng: np.random.Generator, size: int) -> tuple[Image, Mask]:
    """Draw folded pink mucosa around a dark lumen and a polyp of nearly its colour, with specular highlights.

    Large polyps are less compact; large and pale ones less symmetric.
    """
    direction = rng.uniform(0, 2 * np.pi)
    centre = (0.35 * np.cos(direction) + rng.uniform(-0.1, 0.1), 0.35 * np.sin(direction))
    lumen = (-0.45 * np.cos(direction), -0.45 * np.sin(direction))
    redness, radius, tone = rng.uniform(0, 1), rng.uniform(0.24, 0.52), rng.uniform(-22, 22)
    irregularity = max(0.01, 0.17 * radius + 0.0015 * tone + rng.uniform(-0.02, 0.02))
    axes = (radius, radius * rng.uniform(0.7, 1.0))
    depth = irregular(rng, size, centre, axes, rng.uniform(0, np.pi), irregularity)

    image = canvas(size, (190 + tone, 108 + tone + rng.uniform(-12, 12), 90 + tone + rng.uniform(-15, 15)))
    image *= _folds(rng, size, lumen)[..., None]
    # Vessels and mucus: blotches, more of them in green and blue, where blood absorbs.
    image *= 1 + np.array((0.05, 0.1, 0.1)) * smooth_noise(rng, size, 8)[..., None]

    x, y = grid(size)
    # Lit from the camera: the dome is bright towards the middle of the view and dark at its far rim.
    lit = np.clip(depth / radius, 0, 1) ** 0.5 - 0.35 * (
        (x - centre[0]) * centre[0] + (y - centre[1]) * centre[1]
    )
    contrast = rng.uniform(0.5, 1.0)
    colour = np.array((205 + tone, 112 - 28 * redness + tone, 96 - 22 * redness + tone))
    dome = colour * (0.7 + 0.4 * lit + 0.06 * smooth_noise(rng, size, 12))[..., None]
    paint(image, 0.35 * contrast * soft(depth + 0.07, 0.05), (95, 40, 34))
    paint(image, (0.55 + 0.4 * contrast) * soft(depth, 0.03), dome)
    for _ in range(rng.integers(2, 8)):
        _draw_highlight(rng, image, size)
    frame = soft(np.abs(x) + np.abs(y) - rng.uniform(1.45, 1.65), 0.01)
    paint(image, frame, (6, 5, 5))
    return finish(rng, image, 6.0), (depth > 0).astype(np.uint8)


def _folds(rng: np.random.Generator, size: int, lumen: tuple[float, float]) -> Field:
    """Brightness of the wall: rings of haustral folds that darken towards the lumen."""
    distance, theta = polar(size, lumen)
    bent = (
        distance
        + 0.08 * np.sin(theta * rng.integers(2, 5) + rng.uniform(0, 6))
        + 0.05 * smooth_noise(rng, size, 5)
    )
    rings = np.abs(np.sin(rng.uniform(6, 10) * np.sqrt(np.maximum(bent, 0)) + rng.uniform(0, 3)))
    return (0.55 + 0.5 * rings**0.6) * (0.3 + 0.7 * soft(bent - rng.uniform(0.15, 0.32), 0.14))


def _draw_highlight(rng: np.random.Generator, image: Field, size: int) -> None:
    where, width = (rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.8)), rng.uniform(0.02, 0.06)
    spot = ellipse(size, where, (width, width * rng.uniform(0.4, 1)), rng.uniform(0, np.pi))
    paint(image, 0.9 * soft(spot, 0.015), (252, 246, 240))
