"""The networks of a site: the one that takes part, and for some algorithms a personal one beside it."""

import torch
from torch import Tensor

from mucald.data.site_data import SiteData
from mucald.methods.weights.config import WeightsConfig
from mucald.state.checkpoint import with_prefix, without_prefix
from mucald.training.whole_model import WholeModel

_PERSONAL = "personal"


class SiteModels:
    """What a site keeps from round to round.

    Args:
        config: the job.
        name: name of the site.
        data: its images and labels.
        device: where to compute.
        personal: whether there is a personal network.

    Attributes:
        common: the network that takes part.
        personal: the other one, if there is one.
        tested: the one that is validated and tested: the personal one if there is one.
    """

    def __init__(
        self, config: WeightsConfig, name: str, data: SiteData, device: torch.device, personal: bool
    ):
        self.common = WholeModel(config, {name: data}, device)
        self.personal = WholeModel(config, {name: data}, device) if personal else None
        self.tested = self.personal or self.common

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint holds."""
        personal = self.personal.state() if self.personal else {}
        return self.common.state() | with_prefix(_PERSONAL, personal)

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        self.common.load_state(tensors)
        if self.personal:
            self.personal.load_state(without_prefix(_PERSONAL, tensors))

    def begin_as(self, tensors: dict[str, Tensor]) -> None:
        """Take the networks of a checkpoint of another run; optimisers and best rounds begin anew."""
        self.common.load_weights(without_prefix("weights", tensors))
        if self.personal:
            self.personal.load_weights(without_prefix(f"{_PERSONAL}.weights", tensors))
