"""Images as a network takes them: squares, kept as bytes, a quarter and an eighth of what a step needs."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mucald.data.measures import Measures, scored
from mucald.data.site_data import Batch, DataSplit

Pixels = NDArray[np.uint8]
Slice = tuple[Pixels, Pixels]
"""An image (uint8, H x W x 3) and its mask (uint8 class ids, H x W)."""


@dataclass(frozen=True)
class ImageSplit(DataSplit):
    """Images of one split.

    Args:
        pixels: uint8, N x 3 x S x S.
        labels: uint8 class ids, N x S x S.
        measures: float32, N x n, z-scored; NaN where undefined.
    """

    pixels: Tensor
    labels: Tensor
    measures: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, rows: Iterable[int]) -> Batch:
        """Return the images ``rows``, in that order."""
        chosen = torch.as_tensor(list(rows), dtype=torch.int64)
        return Batch(
            inputs=self.pixels[chosen].to(torch.float32) / 255,
            targets=self.labels[chosen].to(torch.int64),
            measures=self.measures[chosen],
        )


def resize(array: Pixels, size: int, method: Image.Resampling) -> Pixels:
    """Return an image (H x W x 3) or mask (H x W) as a square of side ``size``, as training sees it."""
    if array.shape[:2] == (size, size):
        return array
    return np.asarray(Image.fromarray(array).resize((size, size), method))


def prepare(split: str, samples: Iterable[Slice], measures: Measures, size: int) -> dict[str, Tensor]:
    """Return the arrays of a split: images resized bilinearly with antialiasing, masks by nearest neighbour.

    Measures are taken before, at full resolution, and not yet z-scored.
    """
    pixels, labels, measured = [], [], []
    for image, mask in samples:
        measured.append(measures.of(image, mask))
        pixels.append(resize(image, size, Image.Resampling.BILINEAR))
        labels.append(resize(mask, size, Image.Resampling.NEAREST))
    return {
        f"{split}.pixels": torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(),
        f"{split}.labels": torch.from_numpy(np.stack(labels)),
        f"{split}.measures": torch.tensor(measured, dtype=torch.float64),
    }


def split_of(arrays: dict[str, Tensor], split: str) -> ImageSplit:
    """Return a split of the arrays that :func:`prepare` made of all splits."""
    measures = scored(arrays[f"{split}.measures"], arrays["train.measures"])
    return ImageSplit(arrays[f"{split}.pixels"], arrays[f"{split}.labels"], measures)
