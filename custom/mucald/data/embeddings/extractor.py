"""A frozen network that needs no download: convolutions with random filters, the same on every machine.

Random filters with rectifiers and pooling keep much of what tells textures and shapes apart (Jarrett et al.,
ICCV 2009; Saxe et al., ICML 2011). It stands in for a foundation model where there is none.
"""

import hashlib
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mucald import randomness
from mucald.data.embeddings.reference import reference_images, statistics

NAME = "random-features"
SIDE = 32
FILTERS = (16, 32)
GRID = 2
DIMENSION = FILTERS[-1] * GRID * GRID
PREPROCESSING = f"RGB in [0, 1], averaged down to {SIDE} x {SIDE}"

_WIDTHS = (5, 3)


def _draws() -> list[Tensor]:
    shapes = zip(FILTERS, (3, *FILTERS), _WIDTHS, _WIDTHS, strict=False)
    return [randomness.normal(shape, NAME, layer) for layer, shape in enumerate(shapes)]


@cache
def _filters() -> tuple[Tensor, ...]:
    # Without a mean a filter sees edges and textures, and no brightness.
    centred = [weights - weights.mean(dim=(1, 2, 3), keepdim=True) for weights in _draws()]
    return tuple(weights / weights.flatten(1).norm(dim=1)[:, None, None, None] for weights in centred)


def weights_hash() -> str:
    """Return a hash of the draws that the filters are made of.

    The filters themselves may differ in their last bits from machine to machine, as sums do.
    """
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in _draws())).hexdigest()


@torch.no_grad()
def embed(images: Tensor) -> Tensor:
    """Return embeddings (N, :data:`DIMENSION`) of images (N, 3, S, S) in [0, 1], with S at least 32."""
    found = F.adaptive_avg_pool2d(images, SIDE)
    for weights in _filters():
        found = F.avg_pool2d(F.conv2d(found, weights).relu(), 2)
    return F.adaptive_avg_pool2d(found, GRID).flatten(1)


@cache
def reference() -> Tensor:
    """Return mean and standard deviation (2, :data:`DIMENSION`) over public images."""
    return statistics(embed(reference_images(SIDE)))
