"""A site's copy of the server's networks whose shared part is that of all sites."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mucald.aggregation import Offer, State
from mucald.methods.split.model.segments import ServerSegments
from mucald.methods.split.server.candidates import Candidates
from mucald.methods.split.server.in_turn.shared_networks import SharedNetworks
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.state.checkpoint import with_prefix
from mucald.tasks import Task


class FixedState(Candidates):
    """No choice: a state to evaluate with, beside the one in place, which others go on training."""

    def __init__(self, state: State):
        super().__init__()
        self._given = state

    def changes(self, number: int, in_place: State) -> State:  # noqa: ARG002 - a choice names them
        """Return the state, until another choice is offered or restored."""
        return self._given

    def take(self, losses: Sequence[float], in_place: State) -> tuple[int, State]:  # noqa: ARG002 - as above
        """Leave what trains in place."""
        return 0, {}

    def offer(self, offer: Offer) -> None:
        """Evaluate with what is in place from here on."""
        self._given = {}
        super().offer(offer)

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any], device: torch.device) -> None:
        """Restore what :meth:`state` returned, and evaluate with what is in place from here on."""
        self._given = {}
        super().load_state(tensors, state, device)


class TurnCopy(SiteCopy):
    """The server's segments for one site that trains in its turn.

    Causal model and prior are as in every copy. The site validates what the round began with, whoever has
    trained since, and its test is with the best of those states.

    Args:
        shared: the part that is of all sites.
        arguments: those of :class:`.SiteCopy`.
    """

    def __init__(self, shared: SharedNetworks, *arguments: Any):
        self._shared = shared
        self.best_round: int | None = None
        super().__init__(*arguments)

    def _build(self, task: Task) -> ServerSegments:
        segments = super()._build(task)
        self._shared.put_into(segments)
        return segments

    def begin_round(self) -> None:
        """Start the site's turn; it validates what the round began with."""
        self.candidates = FixedState(self._shared.beginning(self._shared.round))
        super().begin_round()

    def rest(self) -> None:
        """Keep nothing of the shared part until the next turn begins."""
        self._start.forget()

    def keep_if_best(self, dice: float) -> bool:
        """Keep what was validated if ``dice`` beats every earlier validation; return whether it did."""
        if dice <= self.best_dice:
            return False
        present = self.segments.state_dict()
        self._best.put({name: t for name, t in present.items() if not self.segments.is_shared(name)})
        self.best_dice, self.best_round = dice, self._shared.round
        return True

    @property
    def best(self) -> State:
        """The best round's weights; none if no round has been validated."""
        return self._best.load() | self._best_shared()

    def _best_shared(self) -> State:
        return {} if self.best_round is None else self._shared.beginning(self.best_round)

    def load_best(self) -> None:
        """Put the best round's weights in place, and evaluate with what is shared as it was then."""
        shared = self._best_shared() or self._shared.beginning(self._shared.round)
        self.segments.load_state_dict(self._best.load(), strict=False)
        self.candidates, self._proxy_errors = FixedState(shared), [self.record.proxy_error]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that a checkpoint of this copy holds; the shared part has its own."""
        tensors, state = super().state()
        for prefix, shared in (("segments", self._shared.weights()), ("best", self._best_shared())):
            for name in shared:
                del tensors[f"{prefix}.{name}"]
        return tensors, state | {"best_round": self.best_round}

    def load_state(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned; in the site's turn, what is shared as it was before it."""
        self.best_round = state["best_round"]
        tensors = tensors | with_prefix("segments", self._shared.weights())
        super().load_state(tensors, state)
        self._shared.rewind(self.optimiser)
        self.rest()
