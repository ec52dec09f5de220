"""Random changes of patches: nnU-Net's set (Isensee et al., Nature Methods 2021), by MONAI's transforms."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.networks.layers import AffineTransform
from monai.transforms import (
    RandAdjustContrast,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandomizableTransform,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
    RandSimulateLowResolution,
)
from monai.transforms.utils import create_rotate
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor

from mucald.data.volumes.patches import cut_out

ROTATION_ODDS, SCALING_ODDS, MIRROR_ODDS = 0.2, 0.2, 0.5
ANGLE, ANGLE_IN_PLANE = 30.0, 180.0
SCALES = (0.7, 1.4)
FLAT = 3
"""A patch that is so many times shorter along one axis than along another is turned about that axis alone."""
CHANNEL_ODDS = 0.5
"""Of each channel, where blur or loss of resolution is drawn at all."""


def drawn_warp(size: Sequence[int], odds: float, draws: np.random.Generator) -> NDArray[np.float64] | None:
    """Draw a rotation and a scaling (3 x 3, from a patch's voxels to the volume's), or neither of them.

    Args:
        size: the patch's.
        odds: of every change, as a share of the usual.
        draws: what is drawn from.
    """
    turned, scaled = draws.random(2) < np.array([ROTATION_ODDS, SCALING_ODDS]) * odds
    angles, factor = draws.uniform(-1, 1, 3), draws.uniform(*SCALES)
    if not turned and not scaled:
        return None
    matrix = np.eye(3)
    flat = int(np.argmin(size)) if max(size) > FLAT * min(size) else None
    if turned and flat is None:
        matrix = create_rotate(3, tuple(np.deg2rad(ANGLE * angles)))[:3, :3]
    elif turned:
        plane = [axis for axis in range(3) if axis != flat]
        matrix[np.ix_(plane, plane)] = create_rotate(2, np.deg2rad(ANGLE_IN_PLANE * angles[0]))[:2, :2]
    if scaled:
        matrix = matrix @ np.diag([1.0 if axis == flat else 1 / factor for axis in range(3)])
    return np.asarray(matrix)


def warped(
    volume: Tensor, centre: NDArray[np.float64], size: Sequence[int], matrix: NDArray[np.float64], mode: str
) -> Tensor:
    """Return a patch (C x size) of a volume (C x X x Y x Z) that is turned and scaled; 0 beyond the volume.

    Only the box that the patch needs is read.

    Args:
        volume: what to cut from.
        centre: of the patch, in voxels.
        size: the patch's.
        matrix: see :func:`drawn_warp`.
        mode: ``bilinear`` for images, ``nearest`` for masks.
    """
    half = (np.array(size) - 1) / 2
    reach = np.ceil(np.abs(matrix) @ half) + 1
    first = np.floor(centre - reach)
    box = (np.ceil(centre + reach) - first + 1).astype(int).tolist()
    part = cut_out(volume, first + (np.array(box) - 1) / 2, box)[None].to(torch.float32)
    theta = np.eye(4)
    theta[:3, :3] = matrix
    theta[:3, 3] = centre - first - matrix @ half
    transform = AffineTransform(tuple(size), normalized=False, mode=mode, padding_mode="zeros")
    return transform(part, torch.from_numpy(theta).to(torch.float32))[0].to(volume.dtype)


class Intensities:
    """Changes of intensities, one after the other, and mirroring.

    Args:
        odds: of every change, as a share of the usual.
        draws: what is drawn from.
    """

    def __init__(self, odds: float, draws: np.random.Generator):
        self._odds, self._draws = odds, draws
        blur, coarse = 0.2 * odds, 0.25 * odds
        # Those of a pair act on each channel by itself, where they are drawn.
        self._transforms: list[tuple[float, RandomizableTransform]] = [
            (1.0, RandGaussianNoise(0.1 * odds, std=0.1)),
            (blur, RandGaussianSmooth(*[(0.5, 1.0)] * 3, prob=CHANNEL_ODDS)),
            (1.0, RandScaleIntensity((-0.25, 0.25), 0.15 * odds, channel_wise=True)),
            (1.0, RandScaleIntensityFixedMean(0.15 * odds, factors=(-0.25, 0.25), preserve_range=True)),
            (
                coarse,
                RandSimulateLowResolution(CHANNEL_ODDS, upsample_mode="trilinear", zoom_range=(0.5, 1.0)),
            ),
            (1.0, RandAdjustContrast(0.1 * odds, (0.7, 1.5), invert_image=True, retain_stats=True)),
            (1.0, RandAdjustContrast(0.3 * odds, (0.7, 1.5), retain_stats=True)),
        ]
        for _, transform in self._transforms:
            transform.set_random_state(state=np.random.RandomState(draws.bit_generator))

    def __call__(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return a patch (C x X x Y x Z) and its mask (X x Y x Z, or a class without axes) changed."""
        for share, transform in self._transforms:
            if share == 1.0:
                image = transform(image)
            elif self._draws.random() < share:
                image = torch.cat([transform(channel) for channel in image.split(1)])
        image = convert_to_tensor(image, track_meta=False)
        axes = np.flatnonzero(self._draws.random(3) < MIRROR_ODDS * self._odds).tolist()
        if axes:
            image = image.flip([axis + 1 for axis in axes])
            labels = labels.flip(axes) if labels.ndim else labels
        return image, labels
