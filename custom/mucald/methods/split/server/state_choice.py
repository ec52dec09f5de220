"""The states between which a site's validation chooses at the beginning of a round."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from mucald.aggregation import BlendFactors, Candidates, State
from mucald.aggregation.base import between
from mucald.state.checkpoint import with_prefix, without_prefix


class StateChoice:
    """The candidates that the aggregation rule gives a site; the first is in place until one is taken.

    A candidate is made when it is asked for. Until then there is only what all lie between: the site's own
    state as far as it is not in place, and the one that it may move towards, which other sites may hold too.

    Attributes:
        fixed: tensors that every candidate has, beside those in place, which others go on training; none from
            when new candidates are held.
    """

    def __init__(self) -> None:
        self._candidates = Candidates({})
        self.fixed: State = {}

    def __len__(self) -> int:
        return len(self._candidates)

    @property
    def factors(self) -> BlendFactors:
        """Of the candidate in place; empty if the rule leaves no choice."""
        return self._candidates.factors[0]

    def hold(self, candidates: Candidates) -> None:
        """Hold one or more candidates, of which the first is about to be put in place."""
        first, self.fixed = candidates.factors[0], {}
        if len(candidates) == 1:
            self._settle(first)
            return
        # A rule that shares nothing gives a site its own tensors back.
        shared = {name: t for name, t in candidates.shared.items() if t is not candidates.own[name]}
        block_of = {name: candidates.block_of[name] for name in shared}
        # The networks' own tensors, which the first candidate overwrites.
        own = {name: candidates.own[name].clone() for name, block in block_of.items() if first[block] != 0}
        self._candidates = Candidates(own, shared, candidates.factors, block_of)

    def _settle(self, factors: BlendFactors) -> None:
        self._candidates = Candidates({}, factors=(factors,))

    def changes(self, number: int, in_place: State) -> State:
        """Return the tensors in which candidate ``number`` differs from what is in place, the first."""
        return self.fixed | self._moved(number, in_place)

    def _moved(self, number: int, in_place: State) -> State:
        first, factors = self.factors, self._candidates.factors[number]
        own = in_place | self._candidates.own
        return {
            name: between(own[name], self._candidates.shared[name], factors[block])
            for name, block in self._candidates.block_of.items()
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
        changes = self._moved(index, in_place)
        self._settle(self._candidates.factors[index])
        return index, changes

    def describe(self, losses: Sequence[float]) -> dict[str, Any] | None:
        """Return what :meth:`take` would settle on, as JSON; None if the rule leaves no choice.

        It has the candidate's ``factors`` and ``loss``, and ``loss_alone`` of the site's own state, None if
        that is no candidate.
        """
        if not self.factors:
            return None
        scored = list(zip(self._candidates.factors, losses, strict=True))
        alone = [loss for factors, loss in scored if not any(factors.values())]
        factors, loss = scored[losses.index(min(losses))]
        return {"factors": factors, "loss": loss, "loss_alone": alone[0] if alone else None}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that a checkpoint of it holds."""
        held = self._candidates
        tensors = with_prefix("own", held.own) | with_prefix("shared", held.shared)
        return tensors, {"factors": list(held.factors), "block_of": dict(held.block_of)}

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any], device: torch.device) -> None:
        """Restore what :meth:`state` returned."""
        own, shared = (
            {name: tensor.to(device) for name, tensor in without_prefix(part, tensors).items()}
            for part in ("own", "shared")
        )
        self._candidates, self.fixed = Candidates(own, shared, state["factors"], state["block_of"]), {}

    @staticmethod
    def share_equal(choices: Iterable["StateChoice"]) -> None:
        """Let all hold what their sites may move towards once, as before each was written for itself."""
        held: State = {}
        for choice in choices:
            shared = choice._candidates.shared
            for name, tensor in shared.items():
                first = held.setdefault(name, tensor)
                if torch.equal(first, tensor):
                    shared[name] = first
