"""FedAvg, and beside it a personal network of every site that is held to the shared one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from mucald.config.common import require_at_least
from mucald.methods.weights.algorithms.fedavg import FedAvg
from mucald.methods.weights.algorithms.fedprox import add_proximal


@dataclass(frozen=True)
class Ditto(FedAvg):
    """Ditto (Li et al., ICML 2021): a site trains the shared network, and a personal one v beside it.

    v adds ½ λ ‖v − w_round‖² over what is shared to its loss, w_round being what the round began with. v is
    what is validated and tested; it begins as the shared network does at the site's first round. The cost is
    twice the time and memory of training at the site, and not a byte more on the wire.

    Args:
        weight: λ, at least 0. At 0 v learns as a site that trains alone.
    """

    weight: float

    personal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_at_least(0, self, "weight")

    def adjust_personal(
        self, parameters: Mapping[str, nn.Parameter], start: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """Add the term's gradient, and return its value."""
        return {"proximal": add_proximal(self.weight, parameters, start)} if self.weight else {}
