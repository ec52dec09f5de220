"""Which tensors of a network are shared, by the names of its parts."""

from collections.abc import Collection, Mapping

from torch import Tensor

from mucald.federation.method import State


def shared_tensors(weights: Mapping[str, Tensor], parts: Collection[str]) -> State:
    """Return the tensors of ``parts``, ``<part>.<name>``, that can be averaged: all floating-point ones."""
    return {
        name: tensor
        for name, tensor in weights.items()
        if name.partition(".")[0] in parts and tensor.is_floating_point()
    }
