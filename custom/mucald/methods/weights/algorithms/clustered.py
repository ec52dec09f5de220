"""FedAvg among those sites alone whose updates agree, for each part of the network by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mucald.aggregation.parting import Parting
from mucald.errors import ConfigError
from mucald.federation.method import State
from mucald.methods.weights.algorithms.base import Update
from mucald.methods.weights.algorithms.fedavg import FedAvg
from mucald.methods.weights.config import WeightsConfig


@dataclass(frozen=True)
class Clustered(FedAvg):
    """Clustered federated learning (Sattler, Müller & Samek, IEEE TNNLS 2021), as :class:`Parting` has it.

    Args:
        conflict: τ, above 0, at most 1. At 1 sites never part, and all is FedAvg.
        memory: κ, at least 0, below 1.
    """

    conflict: float
    memory: float

    def __post_init__(self) -> None:
        Parting(self.conflict, self.memory)

    def check(self, config: WeightsConfig) -> None:
        """Check that all sites begin at once: one that has not begun would join others that have parted."""
        if late := [name for name, site in config.sites.items() if site.joins_at_round]:
            raise ConfigError(
                f"the algorithm 'clustered' takes no sites in later; leave sites.{late[0]}.joins_at_round out"
            )

    def combine(
        self, states: Mapping[str, State], updates: Sequence[Update], memory: State
    ) -> dict[str, State]:
        """Return each site's weights, moved by the mean change of its cluster in each part."""
        changes = {update.site: update.change for update in updates}
        sizes = {update.site: update.n_train for update in updates}
        return Parting(self.conflict, self.memory).combine(states, changes, sizes, memory)
