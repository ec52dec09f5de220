"""A shared representation and private heads, learnt in turn."""

from collections.abc import Collection
from dataclasses import dataclass

from mucald.config.common import require_at_least
from mucald.errors import ConfigError
from mucald.methods.weights.algorithms.fedavg import FedAvg
from mucald.methods.weights.config import WeightsConfig


@dataclass(frozen=True)
class FedRep(FedAvg):
    """FedRep (Collins et al., ICML 2021): a round trains first the head alone, then the representation alone.

    The representation is what the job shares, the head all else. Departure: the paper gives the head SGD of
    its own; here both have the job's AdamW.

    Args:
        head_epochs: how many of a round's epochs train the head. With 0 both learn together, which is FedAvg
            with private heads (FedPer).
    """

    head_epochs: int

    def __post_init__(self) -> None:
        require_at_least(0, self, "head_epochs")

    def check(self, config: WeightsConfig) -> None:
        """Check that every site has a head, and that an epoch is left for the representation."""
        if self.head_epochs >= config.training.local_epochs:
            raise ConfigError(
                f"'algorithm.args.head_epochs' is {self.head_epochs}, which leaves no epoch for what is "
                f"shared; it must be below 'training.local_epochs', {config.training.local_epochs}"
            )
        for site in config.sites:
            if self.head_epochs and len(config.parts_of(site)) in (0, len(config.parts)):
                raise ConfigError(
                    f"fedrep trains what is shared and what is not in turn, but site '{site}' shares "
                    f"{'all' if config.parts_of(site) else 'none'} of its network; change 'shared'"
                )

    def trained(self, epoch: int, shared: Collection[str], parts: Collection[str]) -> Collection[str]:
        """Return the head's parts in the first epochs, then those of the representation."""
        if not self.head_epochs:
            return parts
        return [part for part in parts if (part in shared) == (epoch >= self.head_epochs)]
