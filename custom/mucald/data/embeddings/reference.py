"""Public images by which embeddings are standardised: phantoms, the same for everybody.

Mean and deviation of a site's own embeddings would tell of its images; those of phantoms tell nothing.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from mucald.data.images.phantoms import PHANTOMS
from mucald.randomness import generator

PER_KIND = 8


@cache
def reference_images(size: int) -> Tensor:
    """Return public images (N, 3, ``size``, ``size``) in [0, 1], :data:`PER_KIND` of each kind of phantom."""
    images = [
        draw(generator("reference", kind, index), size)[0]
        for kind, draw in PHANTOMS.items()
        for index in range(PER_KIND)
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(torch.float32) / 255


def statistics(embeddings: Tensor) -> Tensor:
    """Return mean and standard deviation (2, D) of embeddings (N, D)."""
    return torch.stack((embeddings.mean(dim=0), embeddings.std(dim=0)))
