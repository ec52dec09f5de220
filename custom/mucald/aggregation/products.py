"""Scalar products of changes, and the angles between them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mucald.aggregation.base import State


def products(changes: Sequence[State]) -> Tensor:
    """Return the scalar products (N, N) of changes over all their tensors, in float64, on the CPU.

    A tensor that a change lacks counts as unchanged.
    """
    shapes = {name: tensor.shape for change in changes for name, tensor in change.items()}
    gram = torch.zeros(len(changes), len(changes), dtype=torch.float64)
    for name, shape in shapes.items():
        absent = torch.zeros(shape)
        rows = torch.stack([change.get(name, absent).double().cpu().flatten() for change in changes])
        gram += rows @ rows.T
    return gram


def cosines(gram: Tensor) -> Tensor:
    """Return the cosines (N, N) of what has these scalar products; 0 for a change of nothing but zeros."""
    norms = gram.diagonal().sqrt()
    return gram / torch.outer(norms, norms).clamp_min(torch.finfo(torch.float64).tiny)
