"""What every aggregation rule is given and has to return."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from mucald.errors import TrainingError

State = dict[str, Tensor]

BlendFactors = dict[str, float]
"""How far each block of a state has moved from a site's own towards what all share, 0 to 1, by block."""


@dataclass(frozen=True)
class Candidates:
    """The states with which a site may begin the next round; its validation chooses where there are several.

    No state but the two that the others lie between is held: another is made when it is asked for.

    Args:
        own: the site's own state, parameters by name; the next round's where there is nothing to choose.
        shared: what ``own`` moves towards, of the same names; empty where there is nothing to choose. Sites
            may have the same tensors here.
        factors: of every candidate. The first is in place until the site has chosen.
        block_of: the block of every parameter, by name.
    """

    own: State
    shared: State = field(default_factory=dict)
    factors: Sequence[BlendFactors] = ({},)
    block_of: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.factors)

    def state(self, number: int) -> State:
        """Return candidate ``number``'s state; it may hold tensors of ``own`` and ``shared`` themselves."""
        factors = self.factors[number]
        return {
            name: between(own, self.shared[name], factors[self.block_of[name]]) if self.shared else own
            for name, own in self.own.items()
        }


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


class Rule:
    """A rule of aggregation. Subclasses are frozen dataclasses; their fields are their JSON arguments."""

    private_modules: ClassVar[tuple[type[nn.Module], ...]] = ()
    """Types of modules whose parameters and statistics a site keeps for itself."""

    needs_start: ClassVar[bool] = False
    """Whether the rule looks at how far the sites have moved, so that each copy must keep where it began."""

    one_for_all: ClassVar[bool] = True
    """Whether all sites get the same tensors, or their own ones back, so that none are held for one site."""

    @property
    def held_to_choose(self) -> int:
        """Number of states held for each site beside the one in place, at most, while it chooses."""
        return 0

    @property
    def has_choice(self) -> bool:
        """Whether a site may have more than one state to choose from."""
        return False

    def shareable(self, module: nn.Module, statistics: bool) -> State:
        """Return what of a module the rule lets sites share, by name; the tensors are the module's own.

        Args:
            module: of a site.
            statistics: whether floating-point buffers are shared beside the parameters.
        """
        state: State = {name: parameter.detach() for name, parameter in module.named_parameters()}
        if statistics:
            state |= {name: b for name, b in module.named_buffers() if b.is_floating_point()}
        return outside(state, module, lambda _, inner: isinstance(inner, self.private_modules))

    def shareable_parts(self, parts: Mapping[str, nn.Module], statistics: bool) -> State:
        """Return the same of several modules, ``<part>.<name>``."""
        return {
            f"{part}.{name}": tensor
            for part, module in parts.items()
            for name, tensor in self.shareable(module, statistics).items()
        }

    def candidates(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, Candidates]:
        """Return one or more states of which each site takes the one with its own least validation loss.

        Of equals a site takes the first. The result does not depend on the order of ``contributions``.

        Args:
            start: the state with which each site began this round, by site; its present state where the rule
                does not need that.
            contributions: the sites that finished the round; a failed site is not among them.
            memory: what the rule remembers from round to round, written in place.

        Returns:
            Candidates for every site of ``start``, whether it contributed or not. Their tensors may be other
            sites' too, or the site's own of ``start`` and ``contributions``; they are to be read only.

        Raises:
            TrainingError: there is no contribution, two of one site, one of an unknown site, or their
                tensors do not agree, are not floating point or not finite.
        """
        return self.propose(start, _checked(start, contributions), memory)

    def propose(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, Candidates]:
        """Do what :meth:`candidates` promises, for contributions that are checked and in order of site.

        By default each site has one state to begin with, that of :meth:`combine`.
        """
        states = self.combine(start, contributions, memory)
        return {site: Candidates(state) for site, state in states.items()}

    def check(self, names: Sequence[str]) -> None:
        """Check before the first round that the rule fits a job whose shared tensors have these names.

        Raises:
            ConfigError: it does not.
        """

    def combine(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, State]:
        """Return the one state with which each site begins; arguments are those of :meth:`propose`."""
        raise NotImplementedError


class WeightedMean(Rule, ABC):
    """A rule that gives every site the same weighted mean of the contributions."""

    @abstractmethod
    def weights(self, contributions: Sequence[Contribution]) -> list[float]:
        """Return one weight per contribution; they sum to 1."""

    def combine(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, State]:
        """Return the mean, the same tensors for every site of ``start``."""
        mean = weighted_mean([c.state for c in contributions], self.weights(contributions))
        return dict.fromkeys(start, mean)


def outside(state: State, module: nn.Module, private: Callable[[str, nn.Module], bool]) -> State:
    """Return those of a module's tensors that lie in none of its inner modules that are private.

    Args:
        state: tensors by their names in ``module``.
        module: what they are of.
        private: tells it of an inner module, given its path and itself.
    """
    paths = tuple(f"{path}." for path, inner in module.named_modules() if private(path, inner))
    return {name: tensor for name, tensor in state.items() if not name.startswith(paths)}


def between(own: Tensor, shared: Tensor, factor: float) -> Tensor:
    """Return (1 − factor) · ``own`` + factor · ``shared``; at 0 and 1 the one or the other tensor itself."""
    if factor in (0.0, 1.0):
        return shared if factor else own
    return torch.lerp(own, shared, factor)


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


def moved_by_mean(state: State, changes: Sequence[State], scores: Sequence[float]) -> State:
    """Return ``state`` moved by the weighted mean of ``changes``, summed in float64 and in their order.

    A tensor that some changes lack is moved by the mean of the others, or stays where all lack it.

    Args:
        state: tensors by name; not written.
        changes: of these tensors, by the same names.
        scores: what each change weighs, at least 0 and not all 0.
    """
    moved = {}
    for name, present in state.items():
        known = [(change[name], s) for change, s in zip(changes, scores, strict=True) if name in change]
        total = sum(score for _, score in known)
        mean = torch.zeros_like(present, dtype=torch.float64)
        for change, score in known:
            mean.add_(change.to(mean.device), alpha=score / total)
        moved[name] = (present + mean).to(present.dtype)
    return moved


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
