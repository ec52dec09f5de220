"""A front end as one vector, for jobs whose algorithm shares it: how its weights cross the wire."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mucald.errors import WireError


def _shared(front_end: nn.Module, statistics: bool) -> Iterator[Tensor]:
    """Yield what crosses, in the order of the state dictionary; the tensors are the module's own."""
    parameters = dict(front_end.named_parameters())
    for name, tensor in front_end.state_dict().items():
        if tensor.is_floating_point() and (statistics or name in parameters):
            yield tensor


def to_vector(front_end: nn.Module, statistics: bool) -> Tensor:
    """Return the parameters as a vector (n,), float32, on the CPU.

    Args:
        front_end: either side's.
        statistics: whether running means and variances are shared too (``aggregation.statistics``).
    """
    return torch.cat([tensor.flatten().float().cpu() for tensor in _shared(front_end, statistics)])


def from_vector(front_end: nn.Module, vector: Tensor, statistics: bool) -> None:
    """Overwrite what :func:`to_vector` returns with ``vector``.

    Raises:
        WireError: its length is another; nothing is overwritten then.
    """
    tensors = list(_shared(front_end, statistics))
    sizes = [tensor.numel() for tensor in tensors]
    if tuple(vector.shape) != (sum(sizes),):
        raise WireError(f"WEIGHTS has shape {tuple(vector.shape)}, not {(sum(sizes),)}")
    # The state dictionary's tensors are the parameters' own memory, so an optimiser stays valid.
    for tensor, part in zip(tensors, vector.split(sizes), strict=True):
        tensor.copy_(part.reshape(tensor.shape))
