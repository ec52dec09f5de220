"""The mean of what the sites have learnt, but for their normalisation layers."""

from dataclasses import dataclass

from torch import nn

from mucald.aggregation.fedbn import NORMALISATION
from mucald.methods.weights.algorithms.fedavg import FedAvg


@dataclass(frozen=True)
class FedBN(FedAvg):
    """FedBN (Li et al., ICLR 2021): normalisation layers stay at the site, statistics, scales and shifts.

    A layer is known by its type. The paper has batch normalisation; the scales and shifts of the others carry
    a site's feature distribution as well.
    """

    def shares(self, module: nn.Module) -> bool:
        """Return whether the module normalises nothing."""
        return not isinstance(module, NORMALISATION)
