"""Weights by number of training images."""

from collections.abc import Sequence
from dataclasses import dataclass

from mucald.aggregation.base import Contribution, WeightedMean, normalise


@dataclass(frozen=True)
class BySize(WeightedMean):
    """Weights in proportion to the training images (FedAvg; McMahan et al., AISTATS 2017)."""

    def weights(self, contributions: Sequence[Contribution]) -> list[float]:
        """Return n_i / sum of n."""
        return normalise([contribution.n_train for contribution in contributions])
