"""Which tensors of a network are shared, by the names of its parts."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mucald.errors import WireError
from mucald.federation.method import State


def shared_tensors(weights: Mapping[str, Tensor], parts: Collection[str]) -> State:
    """Return the tensors of ``parts``, ``<part>.<name>``, that can be averaged: all floating-point ones."""
    return {
        name: tensor
        for name, tensor in weights.items()
        if name.partition(".")[0] in parts and tensor.is_floating_point()
    }


def check_tensors(received: Mapping[str, Tensor], expected: Mapping[str, Tensor], sender: str) -> None:
    """Check tensors that came over the wire; some may be missing, for a site's filters may exclude them.

    Raises:
        WireError: there is none, one is not shared, or has another shape or type, or a number that is not
            finite. The message names it.
    """
    if not received:
        raise WireError(f"{sender} sent no weights")
    for name, tensor in received.items():
        if name not in expected:
            raise WireError(f"{sender} sent '{name}', which is not shared in this job")
        if tensor.shape != expected[name].shape:
            raise WireError(
                f"'{name}' of {sender} has shape {tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
            )
        if not tensor.is_floating_point():
            raise WireError(f"'{name}' of {sender} is {tensor.dtype}, not floating point")
        if not bool(torch.isfinite(tensor).all()):
            raise WireError(f"'{name}' of {sender} holds a number that is not finite")


def byte_count(tensors: Mapping[str, Tensor]) -> int:
    """Return how many bytes the tensors' numbers take."""
    return sum(tensor.nbytes for tensor in tensors.values())
