"""Which sites do a task at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mucald.randomness import generator

PICK_UP_S = 10.0
"""Seconds that a site which has been away gets to take its task when its turn comes."""


class Schedule(Protocol):
    """Divides the sites of a task into turns."""

    @property
    def grace_s(self) -> float:
        """Seconds that a site which is away is waited for once nobody else is, see :class:`.Attendance`."""

    def turns(self, round_number: int, sites: Sequence[str]) -> list[list[str]]:
        """Return who works at once; a turn is over before the next begins."""


@dataclass(frozen=True)
class AtOnce:
    """All sites work at once."""

    grace_s: float = 0.0

    def turns(self, round_number: int, sites: Sequence[str]) -> list[list[str]]:  # noqa: ARG002 - every round
        """Return one turn of all sites."""
        return [list(sites)]


@dataclass(frozen=True)
class InTurn:
    """The sites work one after the other, in an order that the job's seed and the round decide."""

    seed: int
    grace_s: float = PICK_UP_S

    def turns(self, round_number: int, sites: Sequence[str]) -> list[list[str]]:
        """Return a turn for each site."""
        draws = generator(self.seed, "server", round_number, "turns")
        return [[sites[number]] for number in draws.permutation(len(sites))]
