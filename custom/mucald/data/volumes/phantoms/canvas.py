"""What the phantoms are drawn with. Coordinates run from -1 to 1 to the right, to the front and upwards."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Tissue = NDArray[np.uint8]
Shape = tuple[int, int, int]
Point = tuple[float, float, float]


@lru_cache(maxsize=8)
def grid(shape: Shape) -> tuple[Field, Field, Field]:
    """Return the coordinates of the voxels' centres along each axis, ready to be broadcast."""
    axes = [((np.arange(n) + 0.5) * 2 / n - 1).astype(np.float32) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return x, y, z


@lru_cache(maxsize=32)
def _interpolation(size: int, cells: int) -> Field:
    position = (np.arange(size) + 0.5) * cells / size
    weights = np.exp(-0.5 * ((position[:, None] - np.arange(cells + 1)) / 0.6) ** 2)
    # Rows of unit norm keep the variance of the noise at one.
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def smooth_noise(rng: np.random.Generator, shape: Shape, cells: int) -> Field:
    """Draw Gaussian noise of unit variance whose grains are 2 / ``cells`` wide."""
    noise = rng.standard_normal((cells + 1,) * 3, dtype=np.float32)
    for size in shape:
        # Each turn spreads the first axis and puts it last.
        noise = np.tensordot(noise, _interpolation(size, cells), axes=(0, 1))
    return noise


def ball(shape: Shape, centre: Point, radii: Point) -> Field:
    """Return how deep each voxel lies inside an ellipsoid: 1 in its centre, 0 on its surface."""
    x, y, z = grid(shape)
    squares = [((axis - at) / radius) ** 2 for axis, at, radius in zip((x, y, z), centre, radii, strict=True)]
    return 1 - np.sqrt(squares[0] + squares[1] + squares[2])


def column(shape: Shape, centre: tuple[float, float], radii: tuple[float, float]) -> Field:
    """Return the depth inside an upright elliptic column."""
    return ball(shape, (*centre, 0.0), (*radii, 1e6))


def place_in(rng: np.random.Generator, depth: Field, least: float) -> Point:
    """Draw a voxel that is at least so deep, or the deepest one, and return its coordinates."""
    inside = np.flatnonzero(depth >= min(least, float(depth.max())))
    index = np.unravel_index(rng.choice(inside), depth.shape)
    x, y, z = grid(depth.shape)
    return float(x[index[0], 0, 0]), float(y[0, index[1], 0]), float(z[0, 0, index[2]])
