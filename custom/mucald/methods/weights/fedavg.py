"""The mean of what the sites have learnt."""

from collections.abc import Sequence
from dataclasses import dataclass

from mucald.aggregation.base import moved_by_mean
from mucald.federation.method import State
from mucald.methods.weights.algorithm import Algorithm, Update


@dataclass(frozen=True)
class FedAvg(Algorithm):
    """FedAvg (McMahan et al., AISTATS 2017): w⁺ = w + Σ n_k Δ_k / Σ n_k, n_k being a site's training samples.

    A tensor that some sites' filters have excluded is the mean over the others, or stays where nobody has it.
    """

    def combine(self, weights: State, updates: Sequence[Update], memory: State) -> State:  # noqa: ARG002
        """Return the weights moved by the mean change."""
        return moved_by_mean(weights, [u.change for u in updates], [u.n_train for u in updates])
