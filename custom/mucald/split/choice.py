"""The states between which a site's validation chooses at the beginning of a round."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mucald.aggregation import Candidate, Factors, State
from mucald.split.checkpoint import with_prefix, without_prefix


class Choice:
    """The candidates that the aggregation rule offers to a site; the first is in place until one is taken."""

    def __init__(self) -> None:
        self._factors: list[Factors] = [{}]
        self._changes: list[State] = [{}]

    def __len__(self) -> int:
        return len(self._changes)

    @property
    def factors(self) -> Factors:
        """Of the candidate in place; empty if the rule leaves no choice."""
        return self._factors[0]

    @property
    def changes(self) -> list[State]:
        """In which tensors every candidate differs from the one in place; none for the first."""
        return self._changes

    def offer(self, candidates: Sequence[Candidate]) -> None:
        """Hold one or more candidates, of which the first has been put in place."""
        first = candidates[0].state
        self._factors = [candidate.factors for candidate in candidates]
        # A rule uses a tensor of the first candidate again where another does not differ from it.
        self._changes = [
            {name: tensor for name, tensor in candidate.state.items() if tensor is not first[name]}
            for candidate in candidates
        ]

    def take(self, losses: Sequence[float]) -> tuple[int, State]:
        """Settle on the candidate with the least loss, of equals the first.

        Args:
            losses: the site's validation loss with every candidate.

        Returns:
            which it is, and the tensors to be put in place.
        """
        index = losses.index(min(losses))
        changes = self._changes[index]
        self._factors, self._changes = [self._factors[index]], [{}]
        return index, changes

    def describe(self, losses: Sequence[float]) -> dict[str, Any] | None:
        """Return what :meth:`take` would settle on, as JSON; None if the rule leaves no choice.

        It has the candidate's ``factors`` and ``loss``, and ``loss_alone`` of the site's own state, None if
        that is no candidate.
        """
        if not self.factors:
            return None
        alone = [
            loss for factors, loss in zip(self._factors, losses, strict=True) if not any(factors.values())
        ]
        index = losses.index(min(losses))
        return {
            "factors": self._factors[index],
            "loss": losses[index],
            "loss_alone": alone[0] if alone else None,
        }

    def state(self) -> tuple[dict[str, Tensor], list[Factors]]:
        """Return everything that a checkpoint of it holds."""
        tensors: dict[str, Tensor] = {}
        for number, changes in enumerate(self._changes):
            # Candidates share tensors, which the file format does not allow.
            tensors |= with_prefix(str(number), {name: tensor.clone() for name, tensor in changes.items()})
        return tensors, self._factors

    def load_state(self, tensors: dict[str, Tensor], factors: list[Factors], device: torch.device) -> None:
        """Restore what :meth:`state` returned."""
        self._factors = factors
        self._changes = [
            {name: tensor.to(device) for name, tensor in without_prefix(str(number), tensors).items()}
            for number in range(len(factors))
        ]
