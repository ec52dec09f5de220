"""The mean of what the sites have learnt, followed by an optimiser of the server's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mucald.federation.method import State
from mucald.methods.weights.algorithms.base import Algorithm, Update, names_sent
from mucald.methods.weights.algorithms.fedavg import moved
from mucald.methods.weights.algorithms.server_optimiser import ServerOptimiser


@dataclass(frozen=True)
class FedOpt(Algorithm):
    """FedOpt (Reddi et al., ICLR 2021): the server's optimiser takes a step along FedAvg's mean change.

    Args:
        optimiser: of the server. SGD of learning rate 1 without momentum is FedAvg but for rounding.
    """

    optimiser: ServerOptimiser

    def combine(
        self, states: Mapping[str, State], updates: Sequence[Update], memory: State
    ) -> dict[str, State]:
        """Return the weights after the server's step, the same for all sites."""
        start = next(iter(states.values()))
        after = self.optimiser.step(start, moved(start, updates), names_sent(updates), memory)
        return dict.fromkeys(states, after)
