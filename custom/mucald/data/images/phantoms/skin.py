"""A pigmented skin lesion under the dermatoscope."""

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
    line,
    paint,
    smooth_noise,
    soft,
)


def draw_skin(rng: np.random.Generator, size: int) -> tuple[Image, Mask]:
    """Draw a dark, soft-edged lesion on skin, with hairs, a freckle and dark corners in the way.

    Large lesions are less compact; large and dark ones less symmetric.
    """
    centre = (rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.25))
    radius, redness, darkness = rng.uniform(0.22, 0.6), rng.uniform(0, 1), rng.uniform(0.45, 0.95)
    irregularity = 0.15 * radius + 0.1 * (darkness - 0.45) + rng.uniform(0, 0.03)
    axes = (radius, radius * rng.uniform(0.65, 1.0))
    depth = irregular(rng, size, centre, axes, rng.uniform(0, np.pi), irregularity)
    # Ragged at a finer scale, as pigment network is.
    depth = depth + 0.035 * smooth_noise(rng, size, 9)

    tone = rng.uniform(-18, 18)
    image = canvas(size, (214 + tone, 165 + tone + rng.uniform(-15, 15), 150 + tone + rng.uniform(-20, 20)))
    image += np.array((6, 8, 8)) * smooth_noise(rng, size, 12)[..., None]
    image += 10 * smooth_noise(rng, size, 2)[..., None]

    pigment = np.array((118 + 55 * redness, 74.0, 56.0)) + 20 * smooth_noise(rng, size, 10)[..., None]
    paint(image, darkness * soft(depth, rng.uniform(0.05, 0.14)), pigment)
    core = soft(depth - 0.45 * radius - 0.1 * smooth_noise(rng, size, 6), 0.12)
    paint(image, 0.5 * darkness * core, (70, 42, 38))
    _draw_freckle(rng, image, size, centre, radius)
    for _ in range(rng.integers(0, 8)):
        paint(image, 0.75 * _hair(rng, size), (58, 42, 36))
    x, y = grid(size)
    paint(image, rng.uniform(0, 0.9) * soft(np.hypot(x, y) - rng.uniform(1.15, 1.3), 0.1), (25, 18, 20))
    return finish(rng, image, 6.0), (depth > 0).astype(np.uint8)


def _draw_freckle(
    rng: np.random.Generator, image: Field, size: int, centre: tuple[float, float], radius: float
) -> None:
    direction, distance = rng.uniform(0, 2 * np.pi), radius + rng.uniform(0.25, 0.5)
    where = (centre[0] + distance * np.cos(direction), centre[1] + distance * np.sin(direction))
    spot = rng.uniform(0.05, 0.11)
    paint(image, rng.uniform(0.2, 0.6) * soft(ellipse(size, where, (spot, spot), 0.0), 0.04), (140, 90, 72))


def _hair(rng: np.random.Generator, size: int) -> Field:
    where = (rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.8))
    return line(size, where, rng.uniform(0, np.pi), rng.uniform(-0.6, 0.6), rng.uniform(0.4, 0.9), 0.018)
