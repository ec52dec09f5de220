"""A network as one vector: how front ends that are shared, and middle networks at the end, cross the wire."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from mucald.errors import WireError

PIECE = 1 << 22
"""Numbers in one message, 16 MiB: a whole network may take longer than a step's time-out."""


def _shared(module: nn.Module, statistics: bool) -> Iterator[Tensor]:
    """Yield what crosses, in the order of the state dictionary; the tensors are the module's own."""
    parameters = dict(module.named_parameters())
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and (statistics or name in parameters):
            yield tensor


def to_vector(module: nn.Module, statistics: bool) -> Tensor:
    """Return the parameters as a vector (n,), float32, on the CPU.

    Args:
        module: either side's.
        statistics: whether running means and variances cross too.
    """
    return flat(_shared(module, statistics))


def flat(tensors: Iterable[Tensor]) -> Tensor:
    """Return those of ``tensors`` that are floating point as a vector (n,), float32, on the CPU."""
    return torch.cat([tensor.flatten().float().cpu() for tensor in tensors if tensor.is_floating_point()])


def length(module: nn.Module, statistics: bool) -> int:
    """Return how many numbers :func:`to_vector` returns."""
    return sum(tensor.numel() for tensor in _shared(module, statistics))


def from_vector(module: nn.Module, vector: Tensor, statistics: bool) -> None:
    """Overwrite what :func:`to_vector` returns with ``vector``.

    Raises:
        WireError: its length is another; nothing is overwritten then.
    """
    tensors = list(_shared(module, statistics))
    sizes = [tensor.numel() for tensor in tensors]
    if tuple(vector.shape) != (sum(sizes),):
        raise WireError(f"WEIGHTS has shape {tuple(vector.shape)}, not {(sum(sizes),)}")
    # The state dictionary's tensors are the parameters' own memory, so an optimiser stays valid.
    for tensor, part in zip(tensors, vector.split(sizes), strict=True):
        tensor.copy_(part.reshape(tensor.shape))
