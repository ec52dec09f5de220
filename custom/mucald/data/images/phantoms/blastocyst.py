"""A human blastocyst under the microscope: zona pellucida, trophectoderm, inner cell mass, blastocoel."""

import numpy as np

from mucald.data.images.phantoms.canvas import (
    Field,
    Image,
    Mask,
    canvas,
    ellipse,
    finish,
    irregular,
    paint,
    polar,
    smooth_noise,
    soft,
    wobble,
)

ZONA, TROPHECTODERM, INNER_CELL_MASS, BLASTOCOEL = 1, 2, 3, 4


def draw_blastocyst(rng: np.random.Generator, size: int) -> tuple[Image, Mask]:
    """Draw concentric compartments with an inner cell mass on the wall of the cavity.

    Uneven zona, thick trophectoderm and bubbles each make the cavity less symmetric.
    """
    centre = (rng.uniform(-0.14, 0.14), rng.uniform(-0.14, 0.14))
    radius, unevenness = rng.uniform(0.6, 0.82), rng.uniform(0.05, 0.4)
    zona_width, wall_width, bubbles = rng.uniform(0.08, 0.13), rng.uniform(0.08, 0.16), rng.integers(0, 7)
    contrast = rng.uniform(0.7, 1.0)

    _, theta = polar(size, centre)
    outer = irregular(
        rng, size, centre, (radius, radius * rng.uniform(0.9, 1.0)), rng.uniform(0, np.pi), 0.015
    )
    zona = outer - zona_width * np.clip(1 + wobble(rng, theta, unevenness), 0.4, 1.8)
    cavity_wobble = 0.1 * unevenness + 0.3 * (wall_width - 0.08) + 0.004 * bubbles
    cavity = zona - wall_width
    cavity = cavity + radius * wobble(rng, theta, cavity_wobble)
    cavity = np.minimum(cavity, zona - 0.04)

    direction, reach = rng.uniform(0, 2 * np.pi), radius - zona_width - wall_width - rng.uniform(0.02, 0.1)
    mass_centre = (centre[0] + reach * np.cos(direction), centre[1] + reach * np.sin(direction))
    mass_size = rng.uniform(0.36, 0.46) * radius
    mass = irregular(rng, size, mass_centre, (mass_size * 0.8, mass_size), direction, 0.08)
    mass = np.minimum(mass, zona - 0.04)

    mask = np.zeros((size, size), np.uint8)
    mask[outer > 0], mask[zona > 0], mask[cavity > 0] = ZONA, TROPHECTODERM, BLASTOCOEL
    mask[mass > 0] = INNER_CELL_MASS

    image = canvas(size, (158, 160, 155))
    cells, fine = smooth_noise(rng, size, 14), smooth_noise(rng, size, 28)
    paint(image, contrast * soft(outer, 0.02), (204, 205, 198))
    wall = np.array((118, 120, 115)) + 18 * cells[..., None]
    paint(image, contrast * soft(zona, 0.02), wall)
    paint(image, contrast * soft(cavity, 0.025), (156, 158, 153))
    lump = np.array((128, 126, 117)) + 9 * cells[..., None] + 13 * fine[..., None]
    paint(image, contrast * soft(mass, 0.03), lump)
    # The dark and bright rims of Hoffman contrast.
    paint(image, 0.5 * np.exp(-((outer / 0.025) ** 2)), (105, 107, 103))
    _draw_bubbles(rng, image, soft(np.minimum(cavity, -mass), 0.02), centre, 0.5 * radius, int(bubbles))
    paint(image, 0.5 * soft(_debris(rng, size), 0.02), (120, 120, 114))
    image += 9 * smooth_noise(rng, size, 3)[..., None]
    return finish(rng, image, 8.0), mask


def _draw_bubbles(
    rng: np.random.Generator,
    image: Field,
    room: Field,
    centre: tuple[float, float],
    spread: float,
    count: int,
) -> None:
    for _ in range(count):
        where = (centre[0] + rng.uniform(-spread, spread), centre[1] + rng.uniform(-spread, spread))
        bubble_radius = rng.uniform(0.04, 0.09)
        depth = ellipse(len(image), where, (bubble_radius, bubble_radius), 0.0)
        paint(image, 0.8 * room * soft(depth, 0.015), (212, 213, 206))


def _debris(rng: np.random.Generator, size: int) -> Field:
    where, debris_radius = (rng.choice([-0.85, 0.85]), rng.uniform(-0.9, 0.9)), rng.uniform(0.06, 0.14)
    return ellipse(size, where, (debris_radius, debris_radius), 0.0)
