"""Weights that travel in the tasks and their answers: what came is checked before use."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mucald.errors import WireError


def check_tensors(received: Mapping[str, Tensor], expected: Mapping[str, Tensor], sender: str) -> None:
    """Check tensors that came over the wire; some may be missing, for a site's filters may exclude them.

    Raises:
        WireError: none came though some are expected, one is not shared, or has another shape or type, or a
            number that is not finite. The message names it.
    """
    if expected and not received:
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
