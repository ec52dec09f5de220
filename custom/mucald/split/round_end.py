"""What the server does between rounds: train the discriminators, and aggregate the sites' copies."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mucald import randomness
from mucald.aggregation import Contribution, State, make_rule
from mucald.aggregation.base import weighted_mean
from mucald.config import JobConfig
from mucald.daca import Discriminator, train_discriminator
from mucald.split.checkpoint import load_optimiser_tensors, optimiser_tensors, with_prefix, without_prefix
from mucald.split.server_segments import SPLITS, ServerSegments
from mucald.split.site_copy import SiteCopy


class Discriminators:
    """The two shared discriminators and their optimisers; none if DACA is off.

    Args:
        config: the job; every site that it names is a domain.
        device: where to compute.
    """

    def __init__(self, config: JobConfig, device: torch.device):
        self._config = config
        self.modules: list[Discriminator] = []
        if config.daca.enabled:
            for split in SPLITS:
                with randomness.seeded_initialisation(config.seed, "discriminator", split):
                    module = Discriminator(
                        config.network.latent_channels, len(config.sites), config.daca.width
                    )
                self.modules.append(module.to(device))
        self._optimisers = [
            torch.optim.Adam(module.parameters(), lr=config.daca.learning_rate) for module in self.modules
        ]

    def train(self, copies: Sequence[SiteCopy], round_number: int) -> dict[str, float]:
        """Train on the features that the sites' copies have buffered in this round.

        Returns:
            loss and accuracy of either discriminator; empty if there is none, or nothing to tell apart.
        """
        report = {}
        for index, (module, optimiser) in enumerate(zip(self.modules, self._optimisers, strict=True)):
            features = {
                copy.domain: copy.features[index].features() for copy in copies if len(copy.features[index])
            }
            result = train_discriminator(
                module,
                optimiser,
                features,
                self._config.daca.steps,
                self._config.daca.batch_per_site,
                (self._config.seed, "server", round_number, "discriminator", SPLITS[index]),
            )
            if result is not None:
                report[f"loss_{SPLITS[index]}"] = result.loss
                report[f"accuracy_{SPLITS[index]}"] = result.accuracy
        return report

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint of the discriminators holds."""
        tensors: dict[str, Tensor] = {}
        for split, module, optimiser in zip(SPLITS, self.modules, self._optimisers, strict=False):
            tensors |= with_prefix(f"module_{split}", module.state_dict())
            tensors |= with_prefix(f"optimiser_{split}", optimiser_tensors(optimiser))
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        for split, module, optimiser in zip(SPLITS, self.modules, self._optimisers, strict=False):
            module.load_state_dict(without_prefix(f"module_{split}", tensors))
            load_optimiser_tensors(optimiser, without_prefix(f"optimiser_{split}", tensors))


@torch.no_grad()
def aggregate(
    config: JobConfig, copies: Sequence[SiteCopy], contributions: dict[str, tuple[int, float | None]]
) -> None:
    """Replace the copies' networks by the next round's.

    Shared parts follow the job's aggregation rule; a causal model and its prior are averaged over the sites
    of their task. Optimisers, best weights and integer buffers stay as they are.

    Args:
        config: the job.
        copies: of all sites.
        contributions: number of training images and last validation loss of each site that did its round.
    """
    rule = make_rule(config.aggregation.rule, config.aggregation.args)
    # A target's noise adds its variance to the squared error whatever the causal model does.
    noise_variance = config.release.proxy_noise_std**2
    start = {copy.site: _shared(config, copy.segments) for copy in copies}
    results = rule(
        start,
        [
            Contribution(
                copy.site,
                start[copy.site],
                contributions[copy.site][0],
                contributions[copy.site][1],
                copy.record.proxy_error.mean(noise_variance),
            )
            for copy in copies
            if copy.site in contributions
        ],
    )
    for copy in copies:
        _overwrite(copy.segments, results[copy.site])
    _share_within_tasks([copy for copy in copies if copy.site in contributions], copies)


def _shared(config: JobConfig, segments: ServerSegments) -> State:
    state = {name: p.detach() for name, p in segments.named_parameters() if segments.is_shared(name)}
    if config.aggregation.statistics:
        buffers = {name: b for name, b in segments.named_buffers() if b.is_floating_point()}
        state |= {name: buffer for name, buffer in buffers.items() if segments.is_shared(name)}
    return state


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
