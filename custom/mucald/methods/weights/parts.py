"""Which tensors of a network are shared, by the parts and modules that they are in."""

from collections.abc import Collection, Mapping

from torch import nn

from mucald.aggregation.base import outside
from mucald.federation.method import State
from mucald.methods.weights.algorithms.base import Algorithm
from mucald.state.checkpoint import module_tensors

_HEADS = ("classify", "output_block")
"""What back ends and decoders call the layer whose outputs are the classes."""


def without_parts(tensors: State, parts: Collection[str]) -> State:
    """Return the tensors ``<part>.<name>`` of all other parts."""
    return {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] not in parts}


def shared_tensors(modules: Mapping[str, nn.Module], parts: Collection[str], algorithm: Algorithm) -> State:
    """Return the modules' own tensors ``<part>.<name>`` that are averaged: floating-point ones of ``parts``.

    Args:
        modules: of a network, by part.
        parts: that the job shares.
        algorithm: may keep some of their modules at the site.
    """
    found = {part: module for part, module in modules.items() if part in parts}
    state = {name: tensor for name, tensor in module_tensors(found).items() if tensor.is_floating_point()}

    def private(path: str, inner: nn.Module) -> bool:
        is_head = path.rpartition(".")[2] in _HEADS
        return not algorithm.shares(inner) or (is_head and not algorithm.shares_heads)

    return outside(state, nn.ModuleDict(found), private)
