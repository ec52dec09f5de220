"""Sums of clipped per-sample gradients of linear layers, without a gradient per sample in memory.

The gradient of sample i with respect to a linear layer is the outer product of the gradient δ_i of the
layer's output and the layer's input a_i, so its squared norm is (1 + ‖a_i‖²) ‖δ_i‖², where 1 stands for the
bias (Goodfellow, "Efficient per-example gradient computations", 2015). One backward pass gives all δ, and the
clipped sum is (w δ)ᵀ a with each sample's factor w (Lee & Kifer, PoPETs 2021).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Call = tuple[nn.Linear, Tensor, Tensor]
"""A layer, its input (B, in) and its output (B, out)."""


@dataclass(frozen=True)
class ClippedSum:
    """What a pass over some samples adds up to.

    Args:
        gradients: Σ_i w_i g_i with w_i = min(1, clip / ‖g_i‖), one tensor for each parameter in its order.
        norms: ‖g_i‖ over all parameters, (B,).
        losses: of every sample, (B,).
    """

    gradients: list[Tensor]
    norms: Tensor
    losses: Tensor


class SampleGradients:
    """Clips the gradient that each sample has with respect to all parameters of some networks.

    Args:
        module: holds the networks. All their parameters are those of linear layers, each of which a forward
            pass calls once, with samples as rows; what stands between layers may not mix samples.

    Raises:
        TypeError: a parameter is of another layer.
    """

    def __init__(self, module: nn.Module):
        self.parameters = list(module.parameters())
        self._layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        known = {id(parameter) for layer in self._layers for parameter in layer.parameters()}
        for name, parameter in module.named_parameters():
            if id(parameter) not in known:
                raise TypeError(f"'{name}' is no parameter of a linear layer")

    @contextmanager
    def _recorded(self) -> Iterator[list[Call]]:
        calls: list[Call] = []

        def note(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls.append((layer, inputs[0].detach(), output))

        handles = [layer.register_forward_hook(note) for layer in self._layers]
        try:
            yield calls
        finally:
            for handle in handles:
                handle.remove()

    def clipped_sum(self, losses: Callable[[], Tensor], clip: float) -> ClippedSum:
        """Return the sum of the samples' gradients, each scaled to a norm of at most ``clip``.

        Args:
            losses: computes the loss of every sample, (B,).
            clip: C > 0; infinity leaves all as they are.

        Raises:
            TypeError: a layer was not called once, or not with rows of samples.
        """
        with self._recorded() as calls:
            values = losses()
        if sorted(id(layer) for layer, _, _ in calls) != sorted(map(id, self._layers)):
            raise TypeError("every linear layer must be called once in a forward pass")
        if any(a.dim() != 2 or len(a) != len(values) for _, a, _ in calls):
            raise TypeError("the inputs of linear layers must be samples x features")
        deltas = torch.autograd.grad(values.sum(), [output for _, _, output in calls])
        with torch.no_grad():
            squares = torch.zeros_like(values)
            for (layer, a, _), delta in zip(calls, deltas, strict=True):
                constant = 0 if layer.bias is None else 1
                squares += (constant + a.square().sum(dim=1)) * delta.square().sum(dim=1)
            norms = squares.sqrt()
            # A gradient of 0 stays 0, whatever its factor.
            factors = (clip / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(max=1)
            found: dict[int, Tensor] = {}
            for (layer, a, _), delta in zip(calls, deltas, strict=True):
                weighted = factors[:, None] * delta
                found[id(layer.weight)] = weighted.T @ a
                if layer.bias is not None:
                    found[id(layer.bias)] = weighted.sum(dim=0)
        return ClippedSum([found[id(p)] for p in self.parameters], norms, values.detach())
