"""Sites of like tasks that share more than the middle network."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mucald.aggregation import WeightedMean, make_rule
from mucald.aggregation.parting import Parting
from mucald.errors import ConfigError
from mucald.methods.split.algorithms.base import Algorithm, End
from mucald.methods.split.config import SplitConfig
from mucald.tasks import shared_classes

_BOTH: tuple[End, ...] = ("front_end", "back_end")


@dataclass(frozen=True)
class Groups(Algorithm):
    """The sites of one group share ends and their middle network, all sites what the job's rule combines.

    After a round the server moves a group's ends by the mean of what its sites have changed, and puts the
    mean of their copies in place of each; the job's aggregation rule then combines these across groups. A
    site that is alone in its group keeps its ends, and all is as without groups. A site that keeps its back
    end (FedPer; Arivazhagan et al., 2019) can annotate otherwise than the others, and have other classes.
    Where no ends are shared, nothing leaves that would not leave without groups.

    Args:
        rule: weighs the sites of a group; one that keeps normalisation layers does so in all it combines.
        args: its arguments.
        ends: the ends that are shared: both, the front ends, or none.
        sealed: the sites exchange their ends encrypted with a key of the group, and average them themselves.
        parting: when sites of a group whose changes pull apart go on with ends of their own; null if never.
    """

    rule: str
    args: dict[str, Any] = field(default_factory=dict)
    ends: tuple[End, ...] = _BOTH
    sealed: bool = False
    parting: Parting | None = None

    @property
    def seals(self) -> bool:
        """Whether the server only relays the ends."""
        return self.sealed

    @property
    def parted_by(self) -> Parting | None:
        """What decides when sites of a group go on with ends of their own; None if they never do."""
        return self.parting

    @property
    def shared_ends(self) -> tuple[End, ...]:
        """The ends that the sites of a group share."""
        return self.ends

    @cached_property
    def within(self) -> WeightedMean:
        """The rule that weighs the sites of a group.

        Raises:
            ConfigError: there is no such rule, an argument is wrong, or it is no mean.
        """
        rule = make_rule(self.rule, self.args, "algorithm.args.args")
        if not isinstance(rule, WeightedMean):
            raise ConfigError(
                f"'algorithm.args.rule' is '{self.rule}', which is no weighted mean; within a group take "
                "equal, by_size, causal_invariant or fedbn"
            )
        return rule

    def group(self, config: SplitConfig, site: str) -> tuple[str, ...]:
        """Return the sites that share a site's ends, in order of name; none if it is alone in its group."""
        return config.group(site)

    def check(self, config: SplitConfig) -> None:
        """Check that a group's ends can be shared.

        Raises:
            ConfigError: they are frozen, have not equally many classes, are none that could be sealed or
                compared, or the rule across groups moves every site from where it began, though a group
                begins alike.
        """
        if self.ends not in (_BOTH, _BOTH[:1], ()):
            raise ConfigError(
                '\'algorithm.args.ends\' must be ["front_end", "back_end"], ["front_end"] or []'
            )
        if self.sealed and not self.ends:
            raise ConfigError("algorithm.args.sealed is for ends, but algorithm.args.ends names none")
        if self.parting is not None and (self.sealed or not self.ends):
            raise ConfigError(
                "algorithm.args.parting compares how the server sees ends change, but it "
                + ("cannot read sealed ones" if self.sealed else "is given none")
                + "; leave it out"
            )
        if config.release.mode == "once" and self.ends:
            raise ConfigError(
                "the algorithm 'groups' trains and shares front ends in every round, but release.mode 'once' "
                "freezes them; take algorithm.args.ends [], which shares the middle network alone, or the "
                "mode 'fresh'"
            )
        if not make_rule(config.aggregation.rule, config.aggregation.args).one_for_all:
            raise ConfigError(
                f"the aggregation rule '{config.aggregation.rule}' moves every site from where it began, but "
                "the sites of a group begin alike; take another rule with the algorithm 'groups'"
            )
        for members in {self.group(config, site) for site in config.sites}:
            if members and "back_end" in self.ends:
                shared_classes({site: config.site(site).task for site in members})
        assert self.within
