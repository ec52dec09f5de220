"""What the server does with the sites' copies between two rounds."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mucald.aggregation import Contribution, State, make_rule
from mucald.aggregation.base import weighted_mean
from mucald.federation.method import Contributor
from mucald.methods.split.algorithms import Algorithm
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.segments import ServerSegments
from mucald.methods.split.server.groups import Groups
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.state.checkpoint import with_prefix, without_prefix


class Aggregator:
    """Applies the job's algorithm and aggregation rule, and keeps what they remember.

    Args:
        config: the job.
        algorithm: what is done beyond averaging.

    Attributes:
        algorithm_state: what the algorithm remembers of the rounds before; it is written between rounds, and
            the copies read it within.
        groups: what the sites of one group share.

    Raises:
        ConfigError: the aggregation rule or its arguments are wrong.
    """

    def __init__(self, config: SplitConfig, algorithm: Algorithm):
        self._config, self._algorithm = config, algorithm
        self.algorithm_state: State = {}
        self._rule = make_rule(config.aggregation.rule, config.aggregation.args)
        self._rule_memory: State = {}
        self.groups = Groups(config, algorithm)

    @property
    def needs_start(self) -> bool:
        """Whether the aggregation rule looks at what the sites' rounds began with."""
        return self._rule.needs_start

    def check(self, copies: Sequence[SiteCopy]) -> None:
        """Check that the aggregation rule fits the copies' networks.

        Raises:
            ConfigError: it does not.
        """
        for copy in copies:
            self._rule.check(list(self._shared(copy.segments)))

    @torch.no_grad()
    def end_round(self, copies: Sequence[SiteCopy], contributions: Mapping[str, Contributor]) -> None:
        """Replace the copies' networks by the next round's.

        Shared parts follow the job's aggregation rule; a causal model and its prior are averaged over the
        sites of their task. Optimisers, best weights and integer buffers stay as they are.

        Args:
            copies: of all sites.
            contributions: of each site that did its round.
        """
        scratches = {copy.site: copy.scratch for copy in copies if copy.site in contributions}
        middles = {copy.site: copy.middle_state() for copy in copies}
        self._algorithm.end_round(middles, scratches, self.algorithm_state)
        shared = {copy.site: self._shared(copy.segments) for copy in copies}
        names = list(next(iter(shared.values())))
        # Where no rule looks at it no copy keeps it; a site that did not contribute is back there anyway.
        start = shared
        if self.needs_start:
            starts = {copy.site: copy.start for copy in copies}
            start = {site: {name: state[name] for name in names} for site, state in starts.items()}
        # A target's noise adds its variance to the squared error whatever the causal model does.
        noise_variance = self._config.release.proxy_noise_std**2
        contributed = [
            Contribution(
                copy.site,
                shared[copy.site],
                contributions[copy.site].n_train,
                contributions[copy.site].validation_loss,
                copy.tally.proxy_error.mean(noise_variance),
                copy.candidates.factors,
            )
            for copy in copies
            if copy.site in contributions
        ]
        candidates = self._rule.candidates(*self.groups.average(start, contributed), self._rule_memory)
        for copy in copies:
            copy.candidates.hold(candidates[copy.site])
            _overwrite(copy.segments, candidates[copy.site].state(0))
        _share_within_tasks([copy for copy in copies if copy.site in contributions], copies)

    def _shared(self, segments: ServerSegments) -> State:
        """Return what the sites share, by name: no task's own parts, none of the rule's private modules."""
        statistics, within = self._config.aggregation.statistics, self._algorithm.within
        state = self._rule.shareable(segments, statistics)
        if within is not None:
            in_group = within.shareable(segments, statistics)
            state = {name: tensor for name, tensor in state.items() if name in in_group}
        return {name: tensor for name, tensor in state.items() if segments.is_shared(name)}

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint of the aggregation holds."""
        tensors = with_prefix("algorithm", self.algorithm_state) | with_prefix("rule", self._rule_memory)
        return tensors | with_prefix("groups", self.groups.state())

    def load_state(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Restore what :meth:`state` returned, on the device of the copies."""
        for memory, prefix in ((self.algorithm_state, "algorithm"), (self._rule_memory, "rule")):
            memory.clear()
            memory.update({n: tensor.to(device) for n, tensor in without_prefix(prefix, tensors).items()})
        self.groups.load_state(without_prefix("groups", tensors))


def _share_within_tasks(contributors: Sequence[SiteCopy], copies: Sequence[SiteCopy]) -> None:
    for task in sorted({copy.task.name for copy in contributors}):
        states = [
            {
                name: parameter.detach()
                for name, parameter in copy.segments.named_parameters()
                if not copy.segments.is_shared(name)
            }
            for copy in sorted(contributors, key=lambda copy: copy.site)
            if copy.task.name == task
        ]
        if len(states) == 1 and sum(copy.task.name == task for copy in copies) == 1:
            continue
        mean = weighted_mean(states, [1 / len(states)] * len(states))
        for copy in copies:
            if copy.task.name == task:
                _overwrite(copy.segments, mean)


def _overwrite(segments: ServerSegments, state: State) -> None:
    own = dict(segments.named_parameters()) | dict(segments.named_buffers())
    for name, tensor in state.items():
        # The tensor itself stays, because the optimiser refers to it.
        own[name].copy_(tensor)
