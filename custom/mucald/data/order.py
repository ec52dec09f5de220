"""In what order samples are trained on."""

import torch
from torch import Tensor

from mucald import randomness


def shuffled(count: int, batch_size: int, key: tuple[int | str, ...]) -> tuple[Tensor, ...]:
    """Return the mini-batches of one epoch: rows of ``count`` samples in an order that ``key`` names."""
    draws = randomness.generator(*key)
    return torch.from_numpy(draws.permutation(count)).split(batch_size)
