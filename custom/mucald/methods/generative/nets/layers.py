"""Chains of linear layers."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.2


def chain(inputs: int, hidden: Sequence[int], outputs: int, leak: float = 0.0) -> nn.Sequential:
    """Return linear layers with rectifiers between them; without ``hidden`` widths it is one layer.

    Args:
        inputs: numbers in.
        hidden: width of each layer between.
        outputs: numbers out.
        leak: slope of the rectifiers below 0.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(leak)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def with_class(x: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Return samples (B, n) with their class as one-hot numbers (B, n + K)."""
    return torch.cat((x, F.one_hot(labels, n_classes).to(x.dtype)), dim=1)
