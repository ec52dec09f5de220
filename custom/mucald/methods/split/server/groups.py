"""What the server does for the sites of one group: it holds their ends and averages their copies."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from mucald.aggregation import Contribution, State
from mucald.aggregation.base import moved_by_mean, weighted_mean
from mucald.aggregation.parting import Parting
from mucald.aggregation.parts import clusters, clusters_from_tensors, clusters_to_tensors
from mucald.errors import WireError
from mucald.methods.split.algorithms import Algorithm
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.ends import first_ends
from mucald.methods.split.wire.sealed import SEALED, unpacked
from mucald.state.checkpoint import with_prefix, without_prefix
from mucald.wire.tensors import byte_count, check_tensors

_REST = 1 << 16
"""Bytes for names, shapes and seal of ends that are sealed."""


class AveragedEnds:
    """The ends of a group: the server moves them by the mean change.

    Args:
        config: the job.
        algorithm: tells what is shared.
        site: one of the group.
    """

    n_clusters = 1
    """All of the group share them."""

    def __init__(self, config: SplitConfig, algorithm: Algorithm, site: str):
        self.state = first_ends(config, algorithm, site)

    def of(self, site: str) -> State:  # noqa: ARG002 - all have the same
        """Return what a task brings ``site``."""
        return self.state

    def check(self, site: str, given: State) -> None:
        """Raise :class:`WireError` unless ``given`` is a change of these ends."""
        check_tensors(given, self.state, f"site '{site}'")

    def combine(self, given: Mapping[str, State], weights: Sequence[float]) -> None:
        """End a round in which the sites of ``given`` have changed them so."""
        self.state = moved_by_mean(self.state, list(given.values()), weights)

    def load_state(self, saved: State) -> None:
        """Go back to an earlier ``state``."""
        # In the order of the network, as in a run that was never stopped.
        self.state = {name: saved[name] for name in self.state}


class PartingEnds:
    """The ends of a group whose sites part: the server moves them by the mean change of those still joined.

    Methods are those of :class:`AveragedEnds`.

    Args:
        config: the job.
        algorithm: tells what is shared, and by whom.
        site: one of the group.
        parting: decides who is still joined, for front and back end by themselves.
    """

    def __init__(self, config: SplitConfig, algorithm: Algorithm, site: str, parting: Parting):
        self._states = dict.fromkeys(algorithm.group(config, site), first_ends(config, algorithm, site))
        self._parting = parting
        self._memory: State = {}

    @property
    def state(self) -> State:
        """What a checkpoint holds."""
        return clusters_to_tensors(self._states) | with_prefix("memory", self._memory)

    @property
    def n_clusters(self) -> int:
        """How many clusters have ends of their own."""
        return len(clusters(self._states))

    def of(self, site: str) -> State:
        """Return what a task brings ``site``."""
        return self._states[site]

    def check(self, site: str, given: State) -> None:
        """Raise :class:`WireError` unless ``given`` is a change of these ends."""
        check_tensors(given, self._states[site], f"site '{site}'")

    def combine(self, given: Mapping[str, State], weights: Sequence[float]) -> None:
        """End a round in which the sites of ``given`` have changed them so."""
        scores = dict(zip(given, weights, strict=True))
        self._states = self._parting.combine(self._states, given, scores, self._memory)

    def load_state(self, saved: State) -> None:
        """Go back to an earlier ``state``."""
        self._states = clusters_from_tensors(self._states, saved)
        self._memory = without_prefix("memory", saved)


class RelayedEnds:
    """The ends of a group that seals them: the server has those of the last round by site, and reads none.

    Arguments and methods are those of :class:`AveragedEnds`.
    """

    n_clusters = 1
    """All of the group share them."""

    def __init__(self, config: SplitConfig, algorithm: Algorithm, site: str):
        with torch.device("meta"):
            self._most = byte_count(first_ends(config, algorithm, site)) + _REST
        self.state: State = {}

    def of(self, site: str) -> State:  # noqa: ARG002 - each opens those of all
        """Return what a task brings ``site``."""
        return self.state

    def check(self, site: str, given: State) -> None:
        """Raise :class:`WireError` unless ``given`` can be sealed ends."""
        if given.keys() != {SEALED} or len(given[SEALED]) > self._most:
            raise WireError(f"site '{site}' did not send its ends sealed, or more than they take")
        unpacked(given[SEALED])

    def combine(self, given: Mapping[str, State], weights: Sequence[float]) -> None:  # noqa: ARG002 - theirs
        """Keep what the sites of ``given`` have sent, for all of the group."""
        self.state = {site: one[SEALED] for site, one in given.items()}

    def load_state(self, saved: State) -> None:
        """Go back to an earlier ``state``."""
        self.state = saved


Ends = AveragedEnds | PartingEnds | RelayedEnds


class Groups:
    """The groups of two sites or more; a job whose algorithm knows none has none.

    Args:
        config: the job.
        algorithm: tells the groups, and weighs their sites.
    """

    def __init__(self, config: SplitConfig, algorithm: Algorithm):
        self._rule = algorithm.within
        # Of a set in order, so that a checkpoint's numbers stand for the same groups.
        self._members = sorted({algorithm.group(config, site) for site in config.sites} - {()})
        self._number_of = {site: n for n, members in enumerate(self._members) for site in members}
        first = [config.site(members[0]) for members in self._members]
        self._names = [f"group-{site.group or site.task}" for site in first]
        self._ends = [_ends_of(config, algorithm, members[0]) for members in self._members]
        self._given: dict[str, State] = {}

    def ends(self, site: str) -> State:
        """Return what a task brings of the ends of a site's group; nothing if the site shares none."""
        return self._ends[self._number_of[site]].of(site) if site in self._number_of else {}

    def forget(self, *sites: str) -> None:
        """Forget what came of ``sites``, or of all."""
        for site in sites or list(self._given):
            self._given.pop(site, None)

    def take(self, site: str, given: State) -> None:
        """Keep what a site gives of its ends until the round's end.

        Raises:
            WireError: it is not what the site shares.
        """
        if site in self._number_of:
            self._ends[self._number_of[site]].check(site, given)
            self._given[site] = given
        elif given:
            raise WireError(f"site '{site}' sent tensors, but it shares no ends with others")

    def average(
        self, start: Mapping[str, State], contributions: Sequence[Contribution]
    ) -> tuple[dict[str, State], list[Contribution]]:
        """Bring each group's ends up to date, and return what the rule across groups is given.

        Args:
            start: see :meth:`mucald.aggregation.Rule.candidates`.
            contributions: of the sites that finished the round.

        Returns:
            start and contributions, in which a site of a group has the mean of the group's copies, also a
            site that did not finish.
        """
        begun, found = dict(start), {one.site: one for one in contributions}
        for members, ends in zip(self._members, self._ends, strict=True):
            present = [found[site] for site in members if site in found]
            if not present:
                continue
            assert self._rule is not None
            weights = self._rule.weights(present)
            ends.combine({one.site: self._given[one.site] for one in present}, weights)
            mean = weighted_mean([one.state for one in present], weights)
            for site in members:
                if site in found:
                    found[site] = replace(found[site], state=mean)
                elif site in begun:
                    begun[site] = mean
        return begun, list(found.values())

    def parted(self) -> dict[str, int]:
        """Return into how many clusters each group has parted; those that have not are left out."""
        return {
            name: ends.n_clusters
            for name, ends in zip(self._names, self._ends, strict=True)
            if ends.n_clusters > 1
        }

    def state(self) -> State:
        """Return the groups' ends, by the groups' numbers."""
        return {n: t for i, ends in enumerate(self._ends) for n, t in with_prefix(str(i), ends.state).items()}

    def load_state(self, tensors: State) -> None:
        """Restore what :meth:`state` returned."""
        for number, ends in enumerate(self._ends):
            ends.load_state(without_prefix(str(number), tensors))


def _ends_of(config: SplitConfig, algorithm: Algorithm, site: str) -> Ends:
    if algorithm.seals:
        return RelayedEnds(config, algorithm, site)
    if algorithm.parted_by is not None:
        return PartingEnds(config, algorithm, site, algorithm.parted_by)
    return AveragedEnds(config, algorithm, site)
