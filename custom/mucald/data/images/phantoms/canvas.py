"""What the phantoms are drawn with. Coordinates run from -1 to 1 over the image, whatever its size."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Colour = tuple[float, float, float]

HARMONICS = np.arange(2, 6)


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[Field, Field]:
    """Return the x and y coordinates of the pixel centres, each of shape (size, size)."""
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    x.flags.writeable = y.flags.writeable = False
    return x, y


@lru_cache(maxsize=32)
def _interpolation(size: int, cells: int) -> Field:
    position = (np.arange(size) + 0.5) * cells / size
    weights = np.exp(-0.5 * ((position[:, None] - np.arange(cells + 1)) / 0.6) ** 2)
    # Rows of unit norm keep the variance of the noise at one.
    return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Field:
    """Draw Gaussian noise of unit variance whose grains are 2 / ``cells`` wide, of shape (size, size)."""
    weights = _interpolation(size, cells)
    return weights @ rng.standard_normal((cells + 1, cells + 1)) @ weights.T


def polar(size: int, centre: tuple[float, float], angle: float = 0.0) -> tuple[Field, Field]:
    """Return radius and angle about ``centre``, the angle counted from ``angle`` on."""
    x, y = grid(size)
    dx, dy = x - centre[0], y - centre[1]
    return np.hypot(dx, dy), np.arctan2(dy, dx) - angle


def wobble(rng: np.random.Generator, theta: Field, amount: float) -> Field:
    """Draw an irregular outline: relative deviations of the radius, of standard deviation ``amount``."""
    amplitudes = rng.standard_normal(len(HARMONICS)) / HARMONICS
    phases = rng.uniform(0, 2 * np.pi, len(HARMONICS))
    waves = np.cos(theta[..., None] * HARMONICS + phases) @ amplitudes
    return waves * amount / max(np.sqrt((amplitudes**2).sum() / 2), 1e-9)


def ellipse(size: int, centre: tuple[float, float], axes: tuple[float, float], angle: float) -> Field:
    """Return how deep each point lies inside an ellipse: 0 on its outline, negative outside."""
    x, y = grid(size)
    dx, dy = x - centre[0], y - centre[1]
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / axes[0]
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / axes[1]
    return (1 - np.hypot(u, v)) * np.sqrt(axes[0] * axes[1])


def irregular(
    rng: np.random.Generator,
    size: int,
    centre: tuple[float, float],
    axes: tuple[float, float],
    angle: float,
    amount: float,
) -> Field:
    """Return the depth inside an ellipse whose outline wobbles (:func:`wobble`) by ``amount``."""
    _, theta = polar(size, centre, angle)
    return ellipse(size, centre, axes, angle) + wobble(rng, theta, amount) * np.sqrt(axes[0] * axes[1])


def soft(depth: Field, width: float) -> Field:
    """Turn depth into opacity: 0 outside, 1 inside, rising over ``width`` about the outline."""
    return 0.5 + 0.5 * np.tanh(depth / width)


def line(
    size: int, centre: tuple[float, float], angle: float, bend: float, length: float, width: float
) -> Field:
    """Return the opacity of a bent line through ``centre``."""
    x, y = grid(size)
    dx, dy = x - centre[0], y - centre[1]
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = dy * np.cos(angle) - dx * np.sin(angle) - bend * along**2
    return np.exp(-((across / width) ** 2)) * soft(length - np.abs(along), 0.05)


def paint(image: Field, opacity: Field, colour: Colour | Field) -> None:
    """Lay ``colour`` over ``image`` (H x W x 3) in place, with the given opacity (H x W)."""
    image += opacity[..., None] * (np.asarray(colour) - image)


def canvas(size: int, colour: Colour) -> Field:
    """Return an image of one colour."""
    return np.full((size, size, 3), colour, dtype=np.float64)


def finish(rng: np.random.Generator, image: Field, grain: float) -> Image:
    """Add grain of that standard deviation in grey levels, alike in all channels, and round to uint8."""
    noise = grain * rng.standard_normal(image.shape[:2])
    return np.clip(np.rint(image + noise[..., None]), 0, 255).astype(np.uint8)
