"""Equal weights, but for the normalisation layers."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from mucald.aggregation.equal import Equal

NORMALISATION = (
    _NormBase,  # batch, synchronised batch and instance normalisation
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)
"""The types of layers that normalise."""


@dataclass(frozen=True)
class FedBN(Equal):
    """Every site keeps its own normalisation layers; all else is averaged (FedBN; Li et al., ICLR 2021).

    What stays with a site is known by the layer's type, whatever its name: scales and shifts, and running
    statistics where there are any. The paper has batch normalisation alone; the reason it gives, that these
    layers carry a site's feature distribution, holds for the scales and shifts of the others too.
    """

    private_modules: ClassVar[tuple[type[nn.Module], ...]] = NORMALISATION
