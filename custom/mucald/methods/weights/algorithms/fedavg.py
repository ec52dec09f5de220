"""The mean of what the sites have learnt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mucald.aggregation.base import moved_by_mean
from mucald.federation.method import State
from mucald.methods.weights.algorithms.base import Algorithm, Update


@dataclass(frozen=True)
class FedAvg(Algorithm):
    """FedAvg (McMahan et al., AISTATS 2017): w⁺ = w + Σ n_k Δ_k / Σ n_k, n_k being a site's training samples.

    A tensor that some sites' filters have excluded is the mean over the others, or stays where nobody has it.
    """

    def combine(
        self, states: Mapping[str, State], updates: Sequence[Update], memory: State
    ) -> dict[str, State]:
        """Return the weights moved by the mean change, the same for all sites."""
        return dict.fromkeys(states, moved(next(iter(states.values())), updates))


def moved(state: State, updates: Sequence[Update]) -> State:
    """Return weights moved by the mean of some updates, by the sites' sizes."""
    return moved_by_mean(state, [update.change for update in updates], [update.n_train for update in updates])
