"""A mixture of shared middle networks."""

from dataclasses import dataclass

from mucald.config.common import require_at_least
from mucald.errors import ConfigError
from mucald.methods.split.algorithms.base import Algorithm
from mucald.methods.split.config import SplitConfig


@dataclass(frozen=True)
class FedEM(Algorithm):
    """FedEM (Marfoq et al., NeurIPS 2021): every site's data are a mixture of the same M distributions.

    The components are M middle networks with first weights of their own, averaged one by one;
    :mod:`mucald.methods.split.model.mixture` has the EM steps. One component is plain SplitFed.

    Args:
        components: their number M.
    """

    components: int

    def __post_init__(self) -> None:
        require_at_least(1, self, "components")

    @property
    def n_components(self) -> int:
        """Number of middle networks that the server holds side by side for every site."""
        return self.components

    def check(self, config: SplitConfig) -> None:
        """Refuse what is built for the features of one middle network.

        Raises:
            ConfigError: naming the field.
        """
        if self.components == 1:
            return
        parts = {
            "crdm.encoder": config.crdm.encoder != "none",
            "crdm.denoiser": config.crdm.denoiser,
            "daca.enabled": config.daca.enabled,
            "handover.epochs": config.handover.epochs > 0,
        }
        for field, on in parts.items():
            if on:
                off = {"crdm.encoder": '"none"', "handover.epochs": "0"}.get(field, "false")
                raise ConfigError(
                    f"'{field}' must be {off} with the algorithm fedem: features of {self.components} "
                    "components do not fit what it puts behind the middle network"
                )
