"""The mean of what the sites have learnt."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mucald.federation.method import State
from mucald.methods.weights.algorithm import Algorithm, Update


@dataclass(frozen=True)
class FedAvg(Algorithm):
    """FedAvg (McMahan et al., AISTATS 2017): w⁺ = w + Σ n_k Δ_k / Σ n_k, n_k being a site's training samples.

    A tensor that some sites' filters have excluded is the mean over the others, or stays where nobody has it.
    """

    def combine(self, weights: State, updates: Sequence[Update], memory: State) -> State:  # noqa: ARG002
        """Return the weights moved by the mean change, summed in float64 in the updates' order."""
        combined = {}
        for name, present in weights.items():
            senders = [update for update in updates if name in update.change]
            total = sum(update.n_train for update in senders)
            mean = torch.zeros_like(present, dtype=torch.float64)
            for update in senders:
                mean.add_(update.change[name].to(mean.device), alpha=update.n_train / total)
            combined[name] = (present + mean).to(present.dtype)
        return combined
