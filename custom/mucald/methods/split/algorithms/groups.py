"""Sites of like tasks that share more than the middle network."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mucald.aggregation import WeightedMean, make_rule
from mucald.errors import ConfigError
from mucald.methods.split.algorithms.base import Algorithm, End
from mucald.methods.split.config import SplitConfig
from mucald.tasks import shared_classes


@dataclass(frozen=True)
class Groups(Algorithm):
    """The sites of one group share front ends, and perhaps back ends, beside the middle network.

    After a round the server moves a group's ends by the mean of what its sites have changed, and puts the
    mean of their copies in place of each; the job's aggregation rule then combines these across groups. A
    site that is alone in its group keeps its ends, and all is as without groups. A site that keeps its back
    end (FedPer; Arivazhagan et al., 2019) can annotate otherwise than the others, and have other classes.

    Args:
        rule: weighs the sites of a group; one that keeps normalisation layers does so in all it combines.
        args: its arguments.
        share_back_end: whether back ends are shared too.
        sealed: the sites exchange their ends encrypted with a key of the group, and average them themselves.
    """

    rule: str
    args: dict[str, Any] = field(default_factory=dict)
    share_back_end: bool = True
    sealed: bool = False

    @property
    def seals(self) -> bool:
        """Whether the server only relays the ends."""
        return self.sealed

    @property
    def shared_ends(self) -> tuple[End, ...]:
        """The ends that the sites of a group share."""
        return ("front_end", "back_end") if self.share_back_end else ("front_end",)

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
            ConfigError: they are frozen, have not equally many classes, or the rule across groups moves every
                site from where it began, though a group begins alike.
        """
        if config.release.mode == "once":
            raise ConfigError(
                "the algorithm 'groups' trains and shares front ends in every round, but release.mode 'once' "
                "freezes them; take the mode 'fresh' or another algorithm"
            )
        if not make_rule(config.aggregation.rule, config.aggregation.args).one_for_all:
            raise ConfigError(
                f"the aggregation rule '{config.aggregation.rule}' moves every site from where it began, but "
                "the sites of a group begin alike; take another rule with the algorithm 'groups'"
            )
        for members in {self.group(config, site) for site in config.sites}:
            if members and self.share_back_end:
                shared_classes({site: config.site(site).task for site in members})
        assert self.within
