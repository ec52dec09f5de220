"""Equal weights."""

from collections.abc import Sequence
from dataclasses import dataclass

from mucald.aggregation.base import Contribution, WeightedMean


@dataclass(frozen=True)
class Equal(WeightedMean):
    """Every contribution weighs the same (MuCALD-SplitFed's default)."""

    def weights(self, contributions: Sequence[Contribution]) -> list[float]:
        """Return 1/N for each of N contributions."""
        return [1 / len(contributions)] * len(contributions)
