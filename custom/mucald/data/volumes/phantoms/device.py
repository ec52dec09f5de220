"""What a site's device makes of a scene, so that sites of one task differ as hospitals do."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mucald.data.volumes.phantoms.canvas import Tissue, smooth_noise
from mucald.randomness import generator

_SOFT = 40.0
"""Unenhanced soft tissue, in HU; the contrast agent of a site acts on what lies above or below it."""


@dataclass(frozen=True)
class Device:
    """A device, and how a site uses it.

    Args:
        contrast: of CT the factor of soft tissues' distances from 40 HU, of MR an exponent of intensities.
        noise: standard deviation, in HU or as a share of the brightest tissue.
        blur: standard deviation of the point spread, in voxels.
        bias: of MR, how unevenly the coil receives.
    """

    contrast: float
    noise: float
    blur: float
    bias: float

    def take(self, tissue: Tissue, table: NDArray[np.float32], rng: np.random.Generator) -> np.ndarray:
        """Return the volume (C x X x Y x Z, float32) that it shows of a scene.

        Args:
            tissue: number of the tissue of every voxel, X x Y x Z.
            table: the tissues' intensities, tissues x C, in HU where one is negative, else from 0 to 1.
            rng: what noise is drawn from.
        """
        from scipy.ndimage import gaussian_filter  # only those who draw volumes pay for its import

        ct = bool((table < 0).any())
        values = self._contrasted(table) if ct else np.power(table, self.contrast)
        volume = np.stack([gaussian_filter(one[tissue], self.blur) for one in values.T.astype(np.float32)])
        texture = smooth_noise(rng, tissue.shape, 12)
        volume += (0.3 * self.noise) * texture
        if not ct:
            volume *= 1 + self.bias * smooth_noise(rng, tissue.shape, 2)
        return volume + self.noise * rng.standard_normal(volume.shape, dtype=np.float32)

    def _contrasted(self, table: NDArray[np.float32]) -> NDArray[np.float32]:
        soft = (table > -60) & (table < 220)
        return np.where(soft, _SOFT + (table - _SOFT) * self.contrast, table)


def device_of(seed: int, site: str, modality: str) -> Device:
    """Return a site's device, drawn from the job's seed."""
    draws = generator(seed, site, "device")
    contrast, noise, blur, bias = draws.random(4)
    if modality == "CT":
        return Device(0.75 + 0.5 * contrast, 12 + 20 * noise, 0.45 + 0.3 * blur, 0.0)
    return Device(0.7 + 0.8 * contrast, 0.03 + 0.07 * noise, 0.45 + 0.3 * blur, 0.05 + 0.15 * bias)
