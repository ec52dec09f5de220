"""The sections of ``mucald.json`` of methods in which one party holds a whole network."""

from dataclasses import dataclass

from mucald.config.common import AdamWConfig, AdaptedConfig, NetworkConfig
from mucald.config.job import JobConfig
from mucald.config.keys import key, section


@dataclass(frozen=True, kw_only=True)
class WholeModelConfig(JobConfig):
    """A job whose participants train whole networks."""

    network: AdaptedConfig | NetworkConfig
    clip: float = key(
        "bound of the standardised latent between front end and middle network, as in a split job; `dynunet` "
        "has none",
        3.0,
        above=0,
    )
    cross_entropy: float = key("weight of cross-entropy beside Dice", 0.5, at_least=0)
    optimiser: AdamWConfig = section(AdamWConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.runtime.record:
            raise ValueError("runtime.record keeps messages of steps, and this method has none")

    def learning_rates(self) -> dict[str, float]:
        """Return the one learning rate."""
        return {"segmentation": self.optimiser.learning_rate}
