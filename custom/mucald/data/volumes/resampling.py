"""Volumes on a grid of other spacing, as nnU-Net resamples them (Isensee et al., Nature Methods 2021)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ANISOTROPIC = 3.0
"""A voxel that is so many times longer than wide is interpolated linearly: splines would ring along it."""


def resampled_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]
) -> tuple[int, ...]:
    """Return the shape of a volume at a spacing of ``target``; no side is shorter than a voxel."""
    return tuple(max(1, round(n * own / new)) for n, own, new in zip(shape, spacing, target, strict=True))


def resampled(
    volume: NDArray[np.float32], spacing: Sequence[float], shape: Sequence[int]
) -> NDArray[np.float32]:
    """Return channels (C x X x Y x Z) with other numbers of voxels over the same extent.

    By cubic splines, or linearly where voxels are :data:`ANISOTROPIC`; beyond the outermost voxels their
    values go on.

    Args:
        volume: the channels.
        spacing: sizes of its voxels.
        shape: numbers of voxels wanted.
    """
    order = 3 if max(spacing) <= ANISOTROPIC * min(spacing) else 1
    return np.stack([_zoomed(channel, shape, order) for channel in volume])


def resampled_labels(labels: NDArray[np.uint8], n_classes: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    """Return a mask (X x Y x Z) with other numbers of voxels: each class linearly, the likeliest wins."""
    if labels.shape == tuple(shape):
        return labels
    best = np.full(tuple(shape), -1, dtype=np.float32)
    found = np.zeros(tuple(shape), dtype=np.uint8)
    for label in range(n_classes):
        mask = labels == label
        if mask.any():
            share = _zoomed(mask.astype(np.float32), shape, 1)
            found[share > best] = label
            best = np.maximum(best, share)
    return found


def linear(volume: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """Return values (X x Y x Z) with other numbers of voxels over the same extent, interpolated linearly."""
    return _zoomed(volume, shape, 1)


def _zoomed(volume: NDArray[np.float32], shape: Sequence[int], order: int) -> NDArray[np.float32]:
    if volume.shape == tuple(shape):
        return volume
    from scipy.ndimage import zoom  # only those who prepare volumes pay for its import

    factors = [new / own for new, own in zip(shape, volume.shape, strict=True)]
    return np.asarray(zoom(volume, factors, order=order, mode="nearest", grid_mode=True), dtype=np.float32)
