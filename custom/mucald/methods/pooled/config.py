"""The keys of ``mucald.json`` that training on pooled data adds."""

from dataclasses import dataclass

from mucald.training.config import WholeModelConfig


@dataclass(frozen=True)
class PooledConfig(WholeModelConfig):
    """A job of the family ``pooled``.

    ``participant``: the one that trains; it holds the data of all ``sites``.
    """

    participant: str
