"""In what order samples are trained on."""

import torch
from torch import Tensor

from mucald import randomness
from mucald.config.job import JobConfig


def epoch_batches(
    config: JobConfig, site: str, phase: int | str, epoch: int, count: int
) -> tuple[Tensor, ...]:
    """Return the mini-batches of one epoch: rows of the samples, in an order that the job's seed decides.

    Args:
        config: the job.
        site: whose samples they are.
        phase: number of the round, or the name of what comes before the first.
        epoch: number of the epoch within it.
        count: number of samples.
    """
    draws = randomness.generator(config.seed, site, phase, epoch, "order")
    return torch.from_numpy(draws.permutation(count)).split(config.training.batch_size)
