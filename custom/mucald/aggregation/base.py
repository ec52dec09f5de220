"""What every aggregation rule is given and has to return."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from mucald.errors import TrainingError

State = dict[str, Tensor]

Factors = dict[str, float]
"""How far each block of a state has moved from a site's own towards what all share, 0 to 1, by block."""


@dataclass(frozen=True)
class Candidate:
    """A state with which a site may begin the next round.

    Args:
        factors: what it is, for the record; empty where there is nothing to choose.
        state: parameters by name.
    """

    factors: Factors
    state: State


@dataclass(frozen=True)
class Contribution:
    """What a site's copy of the shared modules became in a round.

    Args:
        site: name of the site.
        state: the copy's floating-point parameters after the round, by name.
        n_train: number of training images of the site, at least 1.
        validation_loss: the site's last validation loss; None if it has not validated yet.
        proxy_mse: mean squared error of the site's proxies (z-scored); None if it has none.
        factors: of the candidate that the site began the round with; empty if there was no choice.

    Raises:
        TrainingError: a number is out of range or not finite.
    """

    site: str
    state: State
    n_train: int
    validation_loss: float | None = None
    proxy_mse: float | None = None
    factors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n_train < 1:
            raise TrainingError(f"n_train of site '{self.site}' is {self.n_train}; it must be at least 1")
        for name in ("validation_loss", "proxy_mse"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise TrainingError(f"{name} of site '{self.site}' is {value}; it must be finite, at least 0")


class Rule(ABC):
    """A rule of aggregation. Subclasses are frozen dataclasses; their fields are their JSON arguments."""

    private_modules: ClassVar[tuple[type[nn.Module], ...]] = ()
    """Types of modules whose parameters and statistics a site keeps for itself."""

    needs_start: ClassVar[bool] = False
    """Whether the rule looks at how far the sites have moved, so that each copy must keep where it began."""

    @property
    def most_candidates(self) -> int:
        """Greatest number of values that a tensor has among a site's candidates, held until it has chosen."""
        return 1

    def __call__(
        self,
        start: Mapping[str, State],
        contributions: Sequence[Contribution],
        memory: State | None = None,
    ) -> dict[str, State]:
        """Return the shared state with which each site begins the next round.

        The result does not depend on the order of ``contributions``.

        Args:
            start: the state with which each site began this round, by site; its present state where the rule
                does not need that.
            contributions: the sites that finished the round; a failed site is not among them.
            memory: what the rule remembers from round to round, written in place; None for an empty one.

        Returns:
            A state for every site of ``start``, whether it contributed or not.

        Raises:
            TrainingError: there is no contribution, two of one site, one of an unknown site, or their
                tensors do not agree, are not floating point or not finite.
        """
        return self.combine(start, _checked(start, contributions), {} if memory is None else memory)

    def offer(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, list[Candidate]]:
        """Return one or more states of which each site takes the one with its own least validation loss.

        Of equals a site takes the first, and the first is in place until it has chosen. Arguments and errors
        are those of :meth:`__call__`.
        """
        return self.choices(start, _checked(start, contributions), memory)

    def choices(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, list[Candidate]]:
        """Do what :meth:`offer` promises, for what :meth:`combine` gets; by default there is no choice."""
        states = self.combine(start, contributions, memory)
        return {site: [Candidate({}, state)] for site, state in states.items()}

    def check(self, names: Sequence[str]) -> None:  # noqa: B027 - most rules fit every job
        """Check before the first round that the rule fits a job whose shared tensors have these names.

        Raises:
            ConfigError: it does not.
        """

    @abstractmethod
    def combine(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, State]:
        """Do what :meth:`__call__` promises, for contributions that are checked and in order of site."""


class WeightedMean(Rule):
    """A rule that gives every site the same weighted mean of the contributions."""

    @abstractmethod
    def weights(self, contributions: Sequence[Contribution]) -> list[float]:
        """Return one weight per contribution; they sum to 1."""

    def combine(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, State]:
        """Return the mean, a copy of it for every site of ``start``."""
        mean = weighted_mean([c.state for c in contributions], self.weights(contributions))
        return {site: {name: tensor.clone() for name, tensor in mean.items()} for site in start}


def normalise(scores: Sequence[float]) -> list[float]:
    """Return ``scores`` divided by their sum."""
    total = sum(scores)
    return [score / total for score in scores]


def weighted_mean(states: Sequence[State], weights: Sequence[float]) -> State:
    """Return the mean of ``states``, summed in float64 and in the given order, in the states' own types."""
    mean = {}
    for name, first in states[0].items():
        total = torch.zeros_like(first, dtype=torch.float64)
        for state, weight in zip(states, weights, strict=True):
            total.add_(state[name], alpha=weight)
        mean[name] = total.to(first.dtype)
    return mean


def _checked(start: Mapping[str, State], contributions: Sequence[Contribution]) -> list[Contribution]:
    ordered = sorted(contributions, key=lambda contribution: contribution.site)
    _check_sites(start, ordered)
    for contribution in ordered:
        _check_state(contribution, ordered[0])
    return ordered


def _check_sites(start: Mapping[str, State], contributions: Sequence[Contribution]) -> None:
    sites = [contribution.site for contribution in contributions]
    if not sites:
        raise TrainingError("no site contributed to this round; there is nothing to aggregate")
    for site in sites:
        if site not in start:
            raise TrainingError(f"site '{site}' contributed but did not start the round")
        if sites.count(site) > 1:
            raise TrainingError(f"site '{site}' contributed {sites.count(site)} times to one round")


def _check_state(contribution: Contribution, reference: Contribution) -> None:
    site, state = contribution.site, contribution.state
    if odd := sorted(state.keys() ^ reference.state.keys()):
        raise TrainingError(f"sites '{site}' and '{reference.site}' do not both have the tensor '{odd[0]}'")
    for name, tensor in state.items():
        expected = reference.state[name]
        if not tensor.is_floating_point():
            raise TrainingError(
                f"'{name}' of site '{site}' is {tensor.dtype}; only floating point is averaged"
            )
        if tensor.shape != expected.shape or tensor.dtype != expected.dtype:
            raise TrainingError(
                f"'{name}' is {tensor.dtype} {tuple(tensor.shape)} at site '{site}' "
                f"but {expected.dtype} {tuple(expected.shape)} at site '{reference.site}'"
            )
        if not tensor.isfinite().all():
            raise TrainingError(f"'{name}' of site '{site}' is not finite")
