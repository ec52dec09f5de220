"""The sections of ``mucald.json`` of methods in which one party holds a whole network."""

from dataclasses import dataclass

from mucald.config.common import AdamWConfig, NetworkConfig, require, require_at_least
from mucald.config.job import JobConfig


@dataclass(frozen=True)
class WholeModelConfig(JobConfig):
    """A job whose participants train whole networks.

    ``network``: the backbone, with front end, middle network and back end where a split job cuts it.
    ``clip``: bound of the standardised latent between front end and middle network, as in a split job.
    ``cross_entropy``: weight of the cross-entropy beside the Dice loss.
    """

    network: NetworkConfig
    clip: float
    cross_entropy: float
    optimiser: AdamWConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.clip > 0, "clip must be positive")
        require_at_least(0, self, "cross_entropy")
        require(
            not self.runtime.record, "runtime.record keeps the messages of steps, and this method has none"
        )

    def learning_rates(self) -> dict[str, float]:
        """Return the one learning rate."""
        return {"segmentation": self.optimiser.learning_rate}
