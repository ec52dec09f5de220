"""All data in one place: what one would get if data could move."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mucald.methods.generative.algorithms.base import Algorithm
from mucald.methods.generative.config import OptimiserConfig


@dataclass(frozen=True)
class Centralised(Algorithm):
    """One classifier on the embeddings of all sites."""

    pooled: ClassVar[bool] = True
    mixes: ClassVar[bool] = False

    def learner(self, dimension: int, n_classes: int, hidden: Sequence[int], config: OptimiserConfig) -> None:
        """Return nothing: nothing is trained together."""
