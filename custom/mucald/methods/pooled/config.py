"""The sections of ``mucald.json`` that training on pooled data adds."""

from dataclasses import dataclass

from mucald.config.common import NetworkConfig, require, require_at_least
from mucald.config.job import JobConfig


@dataclass(frozen=True)
class PooledOptimiser:
    """AdamW; ``clip_norm`` bounds the gradient of front and back end, and that of the middle network."""

    learning_rate: float
    weight_decay: float
    clip_norm: float

    def __post_init__(self) -> None:
        require_at_least(0, self, "learning_rate", "weight_decay")
        require(self.clip_norm > 0, "clip_norm must be positive")


@dataclass(frozen=True)
class PooledConfig(JobConfig):
    """A job of the family ``pooled``.

    ``participant``: the one that trains, which holds the data of all ``sites``.
    ``clip``: bound of the standardised latent between front end and middle network, as in a split job.
    ``cross_entropy``: weight of the cross-entropy beside the Dice loss.
    """

    participant: str
    network: NetworkConfig
    clip: float
    cross_entropy: float
    optimiser: PooledOptimiser

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.clip > 0, "clip must be positive")
        require_at_least(0, self, "cross_entropy")

    def learning_rates(self) -> dict[str, float]:
        """Return the one learning rate."""
        return {"segmentation": self.optimiser.learning_rate}
