"""No aggregation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mucald.aggregation.base import Contribution, Rule, State


@dataclass(frozen=True)
class Local(Rule):
    """Every site keeps its own copy; the yardstick that collaboration has to beat."""

    def combine(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, State]:
        """Return each contribution's own state, and for the other sites the state they started with."""
        return dict(start) | {contribution.site: contribution.state for contribution in contributions}
