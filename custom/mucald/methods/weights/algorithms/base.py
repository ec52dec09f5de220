"""What an algorithm that shares weights decides, at the sites and at the server."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from mucald.federation.method import State
from mucald.methods.weights.config import WeightsConfig


@dataclass(frozen=True)
class Update:
    """What a site's training changed.

    Args:
        site: name of the site.
        change: shared tensors after the round less those that it began with, by name; without those that the
            site's filters have excluded.
        n_train: number of its training samples, at least 1.
        validation_loss: its last one; None if it has not validated yet.
    """

    site: str
    change: State
    n_train: int
    validation_loss: float | None


def names_sent(updates: Sequence[Update]) -> set[str]:
    """Return the names of the tensors of which some site has sent a change."""
    return {name for update in updates for name in update.change}


class Algorithm(ABC):
    """Subclasses are frozen dataclasses; their fields are their arguments in the job's JSON."""

    personal: ClassVar[bool] = False
    """Whether a site trains a network of its own beside the one that it shares, and is tested with it."""

    shares_heads: ClassVar[bool] = True
    """Whether the layer whose outputs are a task's classes travels with the back end."""

    def check(self, config: WeightsConfig) -> None:  # noqa: B027 - most algorithms fit every job
        """Check that the algorithm fits a job.

        Raises:
            ConfigError: it does not.
        """

    def shares(self, module: nn.Module) -> bool:
        """Return whether what a module holds travels, if the job shares the part that it is in."""
        return True

    def trained(self, epoch: int, shared: Collection[str], parts: Collection[str]) -> Collection[str]:
        """Return which parts of a site's network learn in an epoch of a round.

        Args:
            epoch: its number, from 0.
            shared: the parts that the site shares.
            parts: all parts of the network.
        """
        return parts

    def adjust_gradients(
        self,
        parameters: Mapping[str, nn.Parameter],
        start: Mapping[str, Tensor],
    ) -> dict[str, float]:
        """Change the gradients of a site's shared parameters before they are bounded and applied.

        Args:
            parameters: the shared parameters, by name, with gradients.
            start: what the round began with, by the same names; not to be written.

        Returns:
            what this adds to the losses, by name.
        """
        return {}

    def adjust_personal(
        self,
        parameters: Mapping[str, nn.Parameter],
        start: Mapping[str, Tensor],
    ) -> dict[str, float]:
        """Do the same to a site's personal network; arguments are those of :meth:`adjust_gradients`."""
        return {}

    @abstractmethod
    def combine(
        self, states: Mapping[str, State], updates: Sequence[Update], memory: State
    ) -> dict[str, State]:
        """Return the weights with which each site begins the next round.

        Args:
            states: with which each site began this round, by site and name; not to be written. In the first
                round all sites have the same.
            updates: of the sites that finished the round, in the job's order; at least one.
            memory: what the algorithm remembers from round to round, written in place.

        Returns:
            weights of every site of ``states``. Sites that share all of them have the same object.
        """
