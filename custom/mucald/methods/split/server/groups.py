"""What the server does for the sites of one group: it holds their ends and averages their copies."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mucald import randomness
from mucald.aggregation import Contribution, State
from mucald.aggregation.base import moved_by_mean, weighted_mean
from mucald.errors import WireError
from mucald.methods.split.algorithms import Algorithm
from mucald.methods.split.config import SplitConfig
from mucald.nets import back_end_of, backbone_of
from mucald.state.checkpoint import with_prefix, without_prefix
from mucald.tasks import get_task
from mucald.wire.tensors import check_tensors


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
        self._ends = [self._first_ends(config, members[0]) for members in self._members]
        self._changes: dict[str, State] = {}

    def _first_ends(self, config: SplitConfig, site: str) -> State:
        """Return the ends that a group begins with; the job's seed decides them."""
        assert self._rule is not None
        n_classes, statistics = get_task(config.site(site).task).n_classes, config.aggregation.statistics
        with randomness.seeded_initialisation(config.seed, "front_end"):
            front_end = backbone_of(config.network).front_end()
        with randomness.seeded_initialisation(config.seed, "back_end"):
            back_end = back_end_of(config.network, n_classes)
        return self._rule.shareable_parts({"front_end": front_end, "back_end": back_end}, statistics)

    def ends(self, site: str) -> State:
        """Return the ends of a site's group; none if it keeps its own."""
        return self._ends[self._number_of[site]] if site in self._number_of else {}

    def forget(self, *sites: str) -> None:
        """Forget what came of ``sites``, or of all."""
        for site in sites or list(self._changes):
            self._changes.pop(site, None)

    def take(self, site: str, change: State) -> None:
        """Keep what a site has changed of its ends until the round's end.

        Raises:
            WireError: it is not a change of ends that the site shares.
        """
        if ends := self.ends(site):
            check_tensors(change, ends, f"site '{site}'")
            self._changes[site] = change
        elif change:
            raise WireError(f"site '{site}' sent tensors, but it shares no ends with others")

    def average(
        self, start: Mapping[str, State], contributions: Sequence[Contribution]
    ) -> tuple[dict[str, State], list[Contribution]]:
        """Move each group's ends, and return what the rule across groups is given.

        Args:
            start: see :meth:`mucald.aggregation.Rule.candidates`.
            contributions: of the sites that finished the round.

        Returns:
            start and contributions, in which a site of a group has the mean of the group's copies, also a
            site that did not finish.
        """
        begun, found = dict(start), {one.site: one for one in contributions}
        for number, members in enumerate(self._members):
            present = [found[site] for site in members if site in found]
            if not present:
                continue
            assert self._rule is not None
            weights = self._rule.weights(present)
            changes = [self._changes[one.site] for one in present]
            self._ends[number] = moved_by_mean(self._ends[number], changes, weights)
            mean = weighted_mean([one.state for one in present], weights)
            for site in members:
                if site in found:
                    found[site] = replace(found[site], state=mean)
                elif site in begun:
                    begun[site] = mean
        return begun, list(found.values())

    def state(self) -> State:
        """Return the groups' ends, by the groups' numbers."""
        return {n: t for i, ends in enumerate(self._ends) for n, t in with_prefix(str(i), ends).items()}

    def load_state(self, tensors: State) -> None:
        """Restore what :meth:`state` returned."""
        for number, ends in enumerate(self._ends):
            saved = without_prefix(str(number), tensors)
            # In the order of the network, as in a run that was never stopped.
            self._ends[number] = {name: saved[name] for name in ends}
