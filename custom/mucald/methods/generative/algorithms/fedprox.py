"""FedAvg of the classifier whose sites are held to what the round began with."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mucald.config.common import require_at_least
from mucald.federation.method import State
from mucald.methods.generative.algorithms.base import Learner
from mucald.methods.generative.algorithms.fedavg import ClassifierLearner, FedAvg, classifier_module
from mucald.methods.generative.config import OptimiserConfig


class _ProximalLearner(ClassifierLearner):
    def __init__(self, module: nn.Module, config: OptimiserConfig, mu: float):
        super().__init__(module, ("classifier",), config)
        self._mu = mu

    def objective(self, loss: Tensor, begun: State) -> Tensor:
        """Return the loss with ½ μ ‖w − w_round‖²."""
        squares = [(tensor - begun[name]).square().sum() for name, tensor in self.shared().items()]
        return loss + 0.5 * self._mu * torch.stack(squares).sum()


@dataclass(frozen=True)
class FedProx(FedAvg):
    """FedProx (Li et al., MLSys 2020, eq. 2) of the classifier, without noise.

    Args:
        mu: μ, at least 0; 0 is FedAvg.
    """

    mu: float = 0.1

    def __post_init__(self) -> None:
        require_at_least(0, self, "mu")

    def learner(
        self, dimension: int, n_classes: int, hidden: Sequence[int], config: OptimiserConfig
    ) -> Learner:
        """Build the classifier."""
        return _ProximalLearner(classifier_module(dimension, n_classes, hidden), config, self.mu)
