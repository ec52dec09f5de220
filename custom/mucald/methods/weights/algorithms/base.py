"""What an algorithm that shares weights decides, at the sites and at the server."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from mucald.federation.method import State


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
