"""The keys of ``mucald.json`` that training on pooled data adds."""

from dataclasses import dataclass

from mucald.config.keys import key
from mucald.training.config import WholeModelConfig


@dataclass(frozen=True, kw_only=True)
class PooledConfig(WholeModelConfig):
    """Training on pooled data: one model on the images of all sites, in one place."""

    participant: str = key("who trains; holds the data of all `sites`", "pooled")
