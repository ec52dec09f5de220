"""Random changes of images that move or mix their pixels, by MONAI.

Maps of the plane act on a whole mini-batch at once: image by image, MONAI's dictionary transforms take a
quarter of the training step of a small network, these a twentieth.
"""

import numpy as np
import torch
from monai.networks.layers import AffineTransform
from monai.transforms import (
    RandAdjustContrast,
    RandGaussianNoise,
    RandomizableTransform,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
    RandSimulateLowResolution,
)
from monai.transforms.utils import create_rotate, create_scale, create_translate
from monai.utils import convert_to_tensor
from torch import Tensor

from mucald.tasks.augmentation import Augmentation

WARP_ODDS = 0.5
INTENSITY_ODDS = 0.2
"""How often an image is rotated, scaled and shifted, and how often each change of its intensities is made."""


def changed(
    images: Tensor, masks: Tensor, how: Augmentation, odds: float, draws: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return images (B, 3, S, S) in [0, 1] and masks (B, S, S), int64, with random changes.

    Args:
        images, masks: as they are kept.
        how: bounds of the changes.
        odds: of every change, as a share of the usual.
        draws: where all random numbers come from.
    """
    images, masks = _warped(images, masks, how, WARP_ODDS * odds, draws)
    transforms = _intensity_transforms(how, INTENSITY_ODDS * odds)
    for transform in transforms:
        transform.set_random_state(state=np.random.RandomState(draws.bit_generator))
    return torch.stack([_transformed(image, transforms) for image in images]), masks


def _warped(
    images: Tensor, masks: Tensor, how: Augmentation, odds: float, draws: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Rotate, scale and shift about the centre; beyond its border an image goes on as in a mirror."""
    chosen = torch.from_numpy(np.flatnonzero(draws.random(len(images)) < odds))
    if not len(chosen) or not (how.angle or how.scale or how.shift):
        return images, masks
    maps = torch.from_numpy(np.stack([_affine_map(how, draws) for _ in chosen])).to(images.dtype)
    warped = [
        AffineTransform(images.shape[-2:], normalized=True, mode=mode, padding_mode="reflection")(part, maps)
        for mode, part in (("bilinear", images[chosen]), ("nearest", masks[chosen][:, None].to(images.dtype)))
    ]
    return images.index_copy(0, chosen, warped[0]), masks.index_copy(
        0, chosen, warped[1][:, 0].to(masks.dtype)
    )


def _affine_map(how: Augmentation, draws: np.random.Generator) -> np.ndarray:
    """Return where a pixel of the changed image comes from (3, 3), the side being from -1 to 1."""
    angle, scale, *shift = draws.uniform(-1, 1, 4)
    # A factor and its inverse are as likely.
    factor = (1 + how.scale) ** scale
    rotated = create_rotate(2, np.deg2rad(how.angle * angle)) @ create_scale(2, (factor, factor))
    return np.asarray(create_translate(2, [2 * how.shift * by for by in shift]) @ rotated)


def _intensity_transforms(how: Augmentation, odds: float) -> list[RandomizableTransform]:
    transforms = {
        RandScaleIntensityFixedMean(odds, factors=how.contrast, preserve_range=False): how.contrast,
        RandScaleIntensity(how.brightness, odds): how.brightness,
        RandAdjustContrast(odds, gamma=(1 - how.gamma, 1 + how.gamma)): how.gamma,
        RandSimulateLowResolution(
            odds, upsample_mode="bilinear", zoom_range=(1 - how.low_resolution, 1.0)
        ): how.low_resolution,
        RandGaussianNoise(odds, std=how.noise): how.noise,
    }
    return [transform for transform, bound in transforms.items() if bound]


def _transformed(image: Tensor, transforms: list[RandomizableTransform]) -> Tensor:
    for transform in transforms:
        image = transform(image)
    return convert_to_tensor(image, track_meta=False).clamp(0, 1)
