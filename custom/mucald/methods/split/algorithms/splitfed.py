"""Split-federated learning without additions."""

from dataclasses import dataclass

from mucald.methods.split.algorithms.base import Algorithm


@dataclass(frozen=True)
class SplitFed(Algorithm):
    """SplitFed V1 (Thapa et al., AAAI 2022): a middle network per site, averaged after every round."""
