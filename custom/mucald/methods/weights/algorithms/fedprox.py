"""FedAvg whose sites are held to the weights that the round began with."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mucald.config.common import require_at_least
from mucald.methods.weights.algorithms.fedavg import FedAvg


@dataclass(frozen=True)
class FedProx(FedAvg):
    """FedProx (Li et al., MLSys 2020, eq. 2): every site adds ½ μ ‖w − w_round‖² to its loss.

    Args:
        mu: μ, at least 0; 0 is FedAvg.
    """

    mu: float

    def __post_init__(self) -> None:
        require_at_least(0, self, "mu")

    def adjust_gradients(
        self, parameters: Mapping[str, nn.Parameter], start: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """Add the term's gradient, and return its value."""
        return {"proximal": add_proximal(self.mu, parameters, start)} if self.mu else {}


@torch.no_grad()
def add_proximal(weight: float, parameters: Mapping[str, nn.Parameter], start: Mapping[str, Tensor]) -> float:
    """Add the gradient of ½ · ``weight`` · ‖parameters − start‖², and return its value.

    Args:
        weight: of the term.
        parameters: by name; one without a gradient gets none.
        start: what the round began with, by the same names.
    """
    offsets = {name: parameter - start[name] for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            parameter.grad.add_(offsets[name], alpha=weight)
    squares = [offset.square().sum() for offset in offsets.values()]
    # A site that is alone in its group may share nothing.
    return 0.5 * weight * float(torch.stack(squares).sum()) if squares else 0.0
