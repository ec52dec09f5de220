"""Numbers that are taken of every sample at a site, for methods that ask for some, and their scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROUNDING = 1e-9


@dataclass(frozen=True)
class Measures:
    """Numbers to be taken of every sample at full resolution, before it is made to fit the network.

    Args:
        names: what they are called.
        functions: one each, of a sample and its target as the loader reads them; NaN where undefined. Of an
            image these are pixels (uint8, H x W x 3) and mask (uint8, H x W).
    """

    names: tuple[str, ...] = ()
    functions: tuple[Callable[[Any, Any], float], ...] = ()

    def of(self, sample: Any, target: Any) -> list[float]:
        """Return the numbers of one sample."""
        return [function(sample, target) for function in self.functions]


MeasuresOf = Callable[[str], Measures]
"""Says what to measure in samples of a task, given its name."""


def no_measures(task: str) -> Measures:  # noqa: ARG001 - whatever the task
    """Measure nothing."""
    return Measures()


def scored(values: Tensor, training: Tensor) -> Tensor:
    """Return measures as z-scores (float32), by mean and standard deviation of the training samples.

    Args:
        values: float64, N x n, NaN where undefined.
        training: those of the training samples, M x n.
    """
    mean, deviation = training_statistics(training.numpy())
    centred = values.numpy() - mean
    # A measure that does not vary in training says nothing: 0 wherever it is defined.
    scores = np.where(deviation > 0, centred / np.where(deviation > 0, deviation, 1), centred * 0)
    return torch.from_numpy(scores).to(torch.float32)


def training_statistics(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation (ddof 1) of each column over its defined values.

    The standard deviation is 0 for a column that is constant up to rounding or has fewer than two values.
    """
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    mean = np.where(defined, values, 0).sum(axis=0) / np.maximum(count, 1)
    squares = np.where(defined, (values - mean) ** 2, 0).sum(axis=0)
    deviation = np.sqrt(squares / np.maximum(count - 1, 1))
    return mean, np.where(deviation > ROUNDING * np.abs(mean), deviation, 0)
