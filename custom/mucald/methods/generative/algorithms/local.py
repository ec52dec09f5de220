"""Every site alone: what sharing has to beat."""

from collections.abc import Sequence
from dataclasses import dataclass

from mucald.methods.generative.algorithms.base import Algorithm
from mucald.methods.generative.config import OptimiserConfig


@dataclass(frozen=True)
class Local(Algorithm):
    """A site's own classifier on its own embeddings."""

    def learner(self, dimension: int, n_classes: int, hidden: Sequence[int], config: OptimiserConfig) -> None:
        """Return nothing: nothing is trained together."""
