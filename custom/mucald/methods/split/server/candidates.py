"""The states between which a site's validation chooses at the beginning of a round."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mucald.aggregation import Factors, Offer, State
from mucald.aggregation.base import between
from mucald.state.checkpoint import with_prefix, without_prefix

_NOTHING = Offer({}, settings=({},))


class Candidates:
    """The candidates that the aggregation rule offers to a site; the first is in place until one is taken.

    A candidate is made when it is asked for. Until then there is only what all lie between: the site's own
    state as far as it is not in place, and the one that it may move towards, which other sites may hold too.
    """

    def __init__(self) -> None:
        self._offer = _NOTHING

    def __len__(self) -> int:
        return len(self._offer)

    @property
    def factors(self) -> Factors:
        """Of the candidate in place; empty if the rule leaves no choice."""
        return self._offer.settings[0]

    def offer(self, offer: Offer) -> None:
        """Hold one or more candidates, of which the first is about to be put in place."""
        if len(offer) == 1:
            self._settle(offer.settings[0])
            return
        # A rule that shares nothing gives a site its own tensors back.
        shared = {name: tensor for name, tensor in offer.shared.items() if tensor is not offer.own[name]}
        block_of = {name: offer.block_of[name] for name in shared}
        first = offer.settings[0]
        # The networks' own tensors, which the first candidate overwrites.
        own = {name: offer.own[name].clone() for name, block in block_of.items() if first[block] != 0}
        self._offer = Offer(own, shared, offer.settings, block_of)

    def _settle(self, factors: Factors) -> None:
        self._offer = Offer({}, settings=(factors,))

    def changes(self, number: int, in_place: State) -> State:
        """Return the tensors in which candidate ``number`` differs from the first, which is ``in_place``."""
        first, factors = self._offer.settings[0], self._offer.settings[number]
        own = in_place | self._offer.own
        return {
            name: between(own[name], self._offer.shared[name], factors[block])
            for name, block in self._offer.block_of.items()
            if factors[block] != first[block]
        }

    def take(self, losses: Sequence[float], in_place: State) -> tuple[int, State]:
        """Settle on the candidate with the least loss, of equals the first.

        Args:
            losses: the site's validation loss with every candidate.
            in_place: the first candidate.

        Returns:
            which it is, and the tensors to be put in place.
        """
        index = losses.index(min(losses))
        changes = self.changes(index, in_place)
        self._settle(self._offer.settings[index])
        return index, changes

    def describe(self, losses: Sequence[float]) -> dict[str, Any] | None:
        """Return what :meth:`take` would settle on, as JSON; None if the rule leaves no choice.

        It has the candidate's ``factors`` and ``loss``, and ``loss_alone`` of the site's own state, None if
        that is no candidate.
        """
        if not self.factors:
            return None
        settings = self._offer.settings
        alone = [loss for factors, loss in zip(settings, losses, strict=True) if not any(factors.values())]
        index = losses.index(min(losses))
        return {
            "factors": settings[index],
            "loss": losses[index],
            "loss_alone": alone[0] if alone else None,
        }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that a checkpoint of it holds."""
        tensors = with_prefix("own", self._offer.own) | with_prefix("shared", self._offer.shared)
        return tensors, {"settings": list(self._offer.settings), "block_of": dict(self._offer.block_of)}

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any], device: torch.device) -> None:
        """Restore what :meth:`state` returned."""
        own, shared = (
            {name: tensor.to(device) for name, tensor in without_prefix(part, tensors).items()}
            for part in ("own", "shared")
        )
        self._offer = Offer(own, shared, state["settings"], state["block_of"])

    @staticmethod
    def share_equal(choices: Iterable["Candidates"]) -> None:
        """Let all hold what their sites may move towards once, as before each was written for itself."""
        held: State = {}
        for choice in choices:
            shared = choice._offer.shared
            for name, tensor in shared.items():
                first = held.setdefault(name, tensor)
                if torch.equal(first, tensor):
                    shared[name] = first
