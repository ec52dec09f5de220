"""A shared representation and private heads, learnt in turn."""

from dataclasses import dataclass
from typing import ClassVar

from mucald.config.common import require_at_least
from mucald.errors import ConfigError
from mucald.methods.split.algorithms.base import Algorithm, Part


@dataclass(frozen=True)
class FedRep(Algorithm):
    """FedRep (Collins et al., ICML 2021): a round trains first the head alone, then the representation alone.

    The representation is front end and middle network, which are shared; the head is the back end.

    Args:
        head_epochs: how many of a round's epochs train the head. With 0 it has none of its own and learns
            together with the representation, which is FedPer.
    """

    head_epochs: int

    shares_front_end: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_at_least(0, self, "head_epochs")

    def parts(self, local_epochs: int) -> tuple[Part, ...]:
        """Return what each epoch trains; all together are as many passes over the data as without FedRep.

        Raises:
            ConfigError: no epoch is left for the representation.
        """
        if self.head_epochs >= local_epochs:
            raise ConfigError(
                f"'algorithm.args.head_epochs' is {self.head_epochs}, which leaves no epoch for front end "
                f"and middle network; it must be below 'training.local_epochs', {local_epochs}"
            )
        if not self.head_epochs:
            return super().parts(local_epochs)
        head: tuple[Part, ...] = ("head",)
        body: tuple[Part, ...] = ("body",)
        return head * self.head_epochs + body * (local_epochs - self.head_epochs)
