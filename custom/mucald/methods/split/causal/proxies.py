"""Proxies: scalars that a site computes from an image and its mask, the observed variables of a causal graph.

Where MuCALD-SplitFed (ICIP 2026, arXiv 2605.04108) or its published tables tell a formula, it is kept, with
three repairs: asymmetry is measured about the lesion's own axes instead of the image's, so it no longer
encodes where the lesion lies; orientation is given as cos 2θ, since an angle modulo 180 degrees has no
meaningful mean or difference; and all arithmetic is exact (differences of uint8 wrap around). Where no
formula is known (zona spread, bubbles, blastocoel asymmetry) the definition is this project's own, and says
so.

Every function takes an image (uint8, H x W x 3) and a mask (uint8 class ids, H x W) of the same, full
resolution, and returns a float: pixels, square pixels or dimensionless. It is NaN where the quantity is
undefined, always so for an absent class.
"""

import math

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.uint8]
Region = NDArray[np.bool_]

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
SECTORS = 36
MAD_TO_STANDARD_DEVIATION = 1.4826
BUBBLE_DEVIATIONS = 3.0
ISOTROPIC = 1e-9


def area(_image: Image, mask: Mask, *, label: int = 1) -> float:
    """Number of pixels of class ``label``, all components together."""
    return float(np.count_nonzero(mask == label)) or math.nan


def mean_rgb(image: Image, mask: Mask, *, label: int = 1) -> float:
    """Mean grey level (0 to 255) over the pixels of class ``label`` and the three channels."""
    inside = image[mask == label]
    return float(inside.mean()) if inside.size else math.nan


def perimeter(_image: Image, mask: Mask, *, label: int = 1) -> float:
    """Length in pixels of the outer contour of the largest component."""
    region = _largest_component(mask == label)
    return math.nan if region is None else crofton_perimeter(region)


def compactness(_image: Image, mask: Mask, *, label: int = 1) -> float:
    """P² / (4πA) of the largest component's outer contour: 1 for a disc, larger for other shapes."""
    region = _largest_component(mask == label)
    if region is None:
        return math.nan
    return crofton_perimeter(region) ** 2 / (4 * math.pi * int(region.sum()))


def circularity(image: Image, mask: Mask, *, label: int = 1) -> float:
    """4πA / P², the inverse of :func:`compactness`: 1 for a disc, smaller for other shapes."""
    return 1 / compactness(image, mask, label=label)


def solidity(_image: Image, mask: Mask, *, label: int = 1) -> float:
    """Share of its convex hull that the largest component fills, in (0, 1]."""
    # Imported here, as below: the server has graphs of proxies but computes none.
    from scipy import ndimage
    from scipy.spatial import ConvexHull

    region = _largest_component(mask == label)
    if region is None:
        return math.nan
    pixels = np.argwhere(region & ~ndimage.binary_erosion(region))
    # The hull of the pixels' corners, not their centres, so that a rectangle has solidity 1.
    corners = np.concatenate([pixels + corner for corner in ((0, 0), (0, 1), (1, 0), (1, 1))])
    return float(np.count_nonzero(region) / ConvexHull(corners).volume)


def asymmetry(_image: Image, mask: Mask, *, label: int = 1) -> float:
    """Mismatch of the class with its reflections in its two principal axes through its centroid.

    (|M Δ R₁M| + |M Δ R₂M|) / |M|, from 0 (symmetric) to 4 (disjoint). The two terms are added, so it does not
    matter which axis is the major one.
    """
    region = _crop(mask == label)
    if region is None:
        return math.nan
    pixels = np.argwhere(region)
    offsets = pixels - pixels.mean(axis=0)
    axes = np.linalg.eigh(_covariance(region))[1].T
    mismatch = 0.0
    for axis in axes:
        reflected = np.rint(2 * np.outer(offsets @ axis, axis) - offsets + pixels.mean(axis=0)).astype(int)
        inside = ((reflected >= 0) & (reflected < region.shape)).all(axis=1)
        hits = np.count_nonzero(region[tuple(reflected[inside].T)])
        # A reflection keeps the area, so what misses on one side is missed on the other.
        mismatch += 2 * (len(pixels) - hits)
    return float(mismatch / len(pixels))


def orientation(_image: Image, mask: Mask, *, label: int = 1) -> float:
    """cos 2θ of the largest component's major axis: 1 along the rows (horizontal), -1 along the columns.

    It is continuous where the angle jumps from 180 to 0 degrees. NaN for a shape without a major axis.
    """
    region = _largest_component(mask == label)
    if region is None:
        return math.nan
    (down, mixed), (_, across) = _covariance(region)
    length = math.hypot(across - down, 2 * mixed)
    return math.nan if length < ISOTROPIC * (down + across) else float((across - down) / length)


def major_axis(_image: Image, mask: Mask, *, label: int = 1) -> float:
    """Full length in pixels of the major axis of the ellipse with the largest component's second moments."""
    region = _largest_component(mask == label)
    return math.nan if region is None else float(4 * math.sqrt(np.linalg.eigvalsh(_covariance(region))[-1]))


def thickness_spread(_image: Image, mask: Mask, *, label: int = 1) -> float:
    """Standard deviation in pixels of the thickness of a ring-shaped class (zona pellucida).

    Own definition. The ring is cut into 36 sectors about its centroid; a sector's thickness is its area
    divided by its arc length at the mean radius of its pixels. NaN if fewer than two sectors hold any of the
    class.
    """
    pixels = np.argwhere(mask == label)
    if not len(pixels):
        return math.nan
    down, across = (pixels - pixels.mean(axis=0)).T
    turns = np.arctan2(down, across) / (2 * math.pi) % 1
    sector = np.minimum((turns * SECTORS).astype(int), SECTORS - 1)
    counts = np.bincount(sector, minlength=SECTORS)
    radii = np.bincount(sector, np.hypot(down, across), minlength=SECTORS)
    filled = (counts > 0) & (radii > 0)
    if np.count_nonzero(filled) < 2:
        return math.nan
    arcs = radii[filled] / counts[filled] * (2 * math.pi / SECTORS)
    return float((counts[filled] / arcs).std())


def bubble_area(image: Image, mask: Mask, *, label: int = 1) -> float:
    """Number of pixels of class ``label`` (blastocoel) that stand out, bright or dark, from its median.

    Own definition: by more than three robust standard deviations (1.4826 times the median absolute
    deviation).
    """
    grey = image[mask == label].mean(axis=-1)
    if not grey.size:
        return math.nan
    deviation = np.abs(grey - np.median(grey))
    spread = MAD_TO_STANDARD_DEVIATION * np.median(deviation)
    return float(np.count_nonzero(deviation > BUBBLE_DEVIATIONS * spread))


def crofton_perimeter(region: Region) -> float:
    """Perimeter by the Cauchy-Crofton formula: how often lines in four directions cross the outline.

    P = π/8 · (n₀ + n₉₀ + (n₄₅ + n₁₃₅) / √2), with n the crossings of all grid lines of a direction. Unlike
    counting edge pixels it has no bias on a disc; an axis-parallel square comes out 5 % short.
    """
    padded = np.pad(region, 1)
    straight = np.count_nonzero(padded[1:] != padded[:-1]) + np.count_nonzero(padded[:, 1:] != padded[:, :-1])
    falling = np.count_nonzero(padded[1:, 1:] != padded[:-1, :-1])
    rising = np.count_nonzero(padded[1:, :-1] != padded[:-1, 1:])
    return float(math.pi / 8 * (straight + (falling + rising) / math.sqrt(2)))


def _crop(region: Region) -> Region | None:
    """Cut to the bounding box, which all of the above are independent of; None if empty."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not len(rows):
        return None
    return region[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _largest_component(region: Region) -> Region | None:
    """The largest 8-connected component without its holes, cut to its bounding box; None if empty."""
    from scipy import ndimage

    cropped = _crop(region)
    if cropped is None:
        return None
    components, _ = ndimage.label(cropped, EIGHT_CONNECTED)
    largest = int(np.bincount(components.ravel())[1:].argmax()) + 1
    component = np.pad(components == largest, 1)
    # What does not reach the frame's corner from outside is a hole.
    outside, _ = ndimage.label(~component)
    return _crop(outside != outside[0, 0])


def _covariance(region: Region) -> NDArray[np.float64]:
    """Second central moments (row, column) of a region, each pixel counted as a unit square."""
    pixels = np.argwhere(region).astype(float)
    offsets = pixels - pixels.mean(axis=0)
    return offsets.T @ offsets / len(pixels) + np.eye(2) / 12
