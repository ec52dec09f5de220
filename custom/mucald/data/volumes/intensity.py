"""Intensities as networks take them, by modality, as nnU-Net normalises them (Isensee et al., 2021)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CT = "CT"
_LEAST_DEVIATION = 1e-8


def normalised(volume: NDArray[np.float32], intensity: Sequence[float]) -> NDArray[np.float32]:
    """Return a volume (C x X x Y x Z) with normalised intensities.

    Args:
        volume: the values as stored.
        intensity: of CT least and greatest value, mean and deviation of the plan, so that a density stays
            one; empty for MR, whose channels are z-scored each.
    """
    if intensity:
        low, high, mean, deviation = intensity
        return np.asarray((np.clip(volume, low, high) - mean) / deviation, dtype=np.float32)
    axes = (1, 2, 3)
    mean = volume.mean(axis=axes, keepdims=True, dtype=np.float64)
    deviation = volume.std(axis=axes, keepdims=True, dtype=np.float64)
    return np.asarray((volume - mean) / np.maximum(deviation, _LEAST_DEVIATION), dtype=np.float32)
