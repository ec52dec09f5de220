"""Running averages of what a training step reports."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn


@dataclass
class Averages:
    """Means of named numbers. A name that was never added is absent, not zero."""

    _sums: dict[str, float] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Add one value of ``name``."""
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts[name] = self._counts.get(name, 0) + 1

    def add_all(self, values: Mapping[str, float]) -> None:
        """Add one value of each name."""
        for name, value in values.items():
            self.add(name, value)

    def means(self) -> dict[str, float]:
        """Return the mean of every name, in alphabetical order."""
        return {name: self._sums[name] / self._counts[name] for name in sorted(self._sums)}


def total_norm(tensors: Iterable[torch.Tensor]) -> float:
    """Return the Euclidean norm of all of ``tensors`` together; 0 for none."""
    tensors = list(tensors)
    return float(torch.stack(torch._foreach_norm(tensors)).norm()) if tensors else 0.0


def gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    """Return the norm of the parameters' gradients, before clipping; parameters without one do not count."""
    return total_norm(parameter.grad for parameter in parameters if parameter.grad is not None)
