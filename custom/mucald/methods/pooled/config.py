"""The sections of ``mucald.json`` that training on pooled data adds."""

from dataclasses import dataclass

from mucald.config.common import NetworkConfig
from mucald.config.job import JobConfig
from mucald.config.keys import Section, key, section


@dataclass(frozen=True, kw_only=True)
class PooledOptimiser(Section):
    """AdamW."""

    learning_rate: float = key("learning rate", 0.001, at_least=0)
    weight_decay: float = key("weight decay", 0.01, at_least=0)
    clip_norm: float = key(
        "bound of the gradient's norm, once over front and back end and once over the middle network",
        1.0,
        above=0,
    )


@dataclass(frozen=True, kw_only=True)
class PooledConfig(JobConfig):
    """Training on pooled data: one model on the images of all sites, in one place."""

    participant: str = key("who trains; holds the data of all `sites`", "pooled")
    network: NetworkConfig
    clip: float = key(
        "bound of the standardised latent between front end and middle network, as in a split job",
        3.0,
        above=0,
    )
    cross_entropy: float = key("weight of cross-entropy beside Dice", 0.5, at_least=0)
    optimiser: PooledOptimiser = section(PooledOptimiser)

    def learning_rates(self) -> dict[str, float]:
        """Return the one learning rate."""
        return {"segmentation": self.optimiser.learning_rate}
