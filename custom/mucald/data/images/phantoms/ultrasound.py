"""Ultrasound of the fetal head, during labour beside the pubic symphysis, and alone in its standard plane."""

import numpy as np

from mucald.data.images.phantoms.canvas import (
    Field,
    Image,
    Mask,
    ellipse,
    finish,
    grid,
    line,
    polar,
    smooth_noise,
    soft,
)

SYMPHYSIS, HEAD = 1, 2
TISSUE, SKULL = 76.0, 175.0


def draw_pelvis(rng: np.random.Generator, size: int) -> tuple[Image, Mask]:
    """Draw a fan with the head's bright outline and, above it, the small symphysis in its capsule."""
    aspect, angle = rng.uniform(0.68, 0.95), rng.uniform(-0.6, 0.6)
    major = rng.uniform(0.36, 0.56)
    centre = (rng.uniform(0.02, 0.24), rng.uniform(0.12, 0.38))
    head = ellipse(size, centre, (major, major * aspect), angle)
    length, tilt = rng.uniform(0.17, 0.26), rng.uniform(0.2, 0.9)
    place = (rng.uniform(-0.5, -0.3), rng.uniform(-0.5, -0.34))
    symphysis = ellipse(size, place, (length, length * rng.uniform(0.4, 0.55)), tilt)

    echo = _tissue(rng, size)
    echo += (_skull(rng, size, head, centre) - 20) * soft(head + 0.04, 0.05)
    echo += 34 * soft(symphysis, 0.03) + rng.uniform(40, 90) * np.exp(-((symphysis / 0.03) ** 2))
    for _ in range(rng.integers(1, 4)):
        echo += rng.uniform(30, 70) * _streak(rng, size)
    mask = np.zeros((size, size), np.uint8)
    mask[head > 0], mask[symphysis > 0] = HEAD, SYMPHYSIS
    return _scan(rng, size, echo), mask


def draw_fetal_head(rng: np.random.Generator, size: int) -> tuple[Image, Mask]:
    """Draw the head in its standard plane: broken skull outline, midline echo, speckled brain."""
    angle, aspect, major = rng.uniform(-0.5, 0.5), rng.uniform(0.68, 0.92), rng.uniform(0.4, 0.7)
    centre = (rng.uniform(-0.15, 0.15), rng.uniform(-0.05, 0.22))
    head = ellipse(size, centre, (major, major * aspect), angle)
    echo = _tissue(rng, size) - rng.uniform(0, 24) * soft(head, 0.05)
    echo += rng.uniform(0.4, 1.0) * _skull(rng, size, head, centre)
    echo += rng.uniform(20, 60) * line(size, centre, angle, 0.0, 0.6 * major, 0.02)
    for _ in range(rng.integers(1, 4)):
        echo += rng.uniform(20, 60) * _streak(rng, size)
    return _scan(rng, size, echo), (head > 0).astype(np.uint8)


def _tissue(rng: np.random.Generator, size: int) -> Field:
    return TISSUE * rng.uniform(0.75, 1.2) + 13 * smooth_noise(rng, size, 5)


def _skull(rng: np.random.Generator, size: int, head: Field, centre: tuple[float, float]) -> Field:
    """A ring that is bright where the beam meets it squarely, and fades at the sides."""
    _, theta = polar(size, centre)
    square_on = 0.2 + 0.8 * np.sin(theta + rng.uniform(-0.4, 0.4)) ** 2
    return SKULL * rng.uniform(0.5, 1.0) * square_on * np.exp(-(((head - 0.02) / 0.035) ** 2))


def _streak(rng: np.random.Generator, size: int) -> Field:
    where = (rng.uniform(-0.7, 0.7), rng.uniform(-0.7, 0.8))
    return line(size, where, rng.uniform(-0.7, 0.7), rng.uniform(-1, 1), rng.uniform(0.1, 0.3), 0.03)


def _scan(rng: np.random.Generator, size: int, echo: Field) -> Image:
    """Multiply by speckle and by the loss with depth, cut out the fan, and compress."""
    x, y = grid(size)
    apex, half_angle = -1.5 + rng.uniform(-0.1, 0.1), rng.uniform(0.62, 0.75)
    depth, theta = np.hypot(x, y - apex), np.arctan2(x, y - apex)
    fan = soft(half_angle - np.abs(theta), 0.02) * soft(2.45 - depth, 0.02) * soft(depth - 0.55, 0.02)
    speckle = np.hypot(smooth_noise(rng, size, 30), smooth_noise(rng, size, 30)) / 1.25
    shadow = 1 - 0.6 * np.exp(-(((theta - rng.uniform(-0.5, 0.5)) / 0.06) ** 2)) * soft(depth - 1.2, 0.1)
    loss = np.exp(-rng.uniform(0.1, 0.5) * (depth - 1.4))
    image = fan * shadow * loss * np.clip(echo, 8, 255) * (0.35 + 0.65 * speckle)
    return finish(rng, np.repeat(np.clip(image, 0, 255)[..., None], 3, axis=2), 4.0)
