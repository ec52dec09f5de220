"""Sharing weights as a family: who takes part, either half, and what is said of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mucald.federation.method import ServerContext, ServerMethod, SiteMethod
from mucald.methods.weights.config import WeightsConfig
from mucald.privacy.disclosure import SCORES, Disclosure, weights
from mucald.privacy.policy import Policy
from mucald.state.checkpoint import CheckpointStore

if TYPE_CHECKING:
    from mucald.federation.method import TrainedModel


class WeightsFamily:
    """See :class:`mucald.federation.method.Family`."""

    config = WeightsConfig
    takes_sites_in = True

    def participants(self, config: WeightsConfig) -> list[str]:
        """Return the job's sites."""
        return list(config.sites)

    def members(self, config: WeightsConfig, participant: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return the participant: a site answers for itself."""
        return (participant,)

    def check(self, config: WeightsConfig, participants: Sequence[str]) -> None:
        """Check the algorithm, and that the sites' networks can share what they share."""
        from mucald.methods.weights.algorithms import make_algorithm
        from mucald.methods.weights.shared_weights import shared_between

        make_algorithm(config.algorithm).check(config)
        for site in participants:
            config.site(site)
        shared_between(config, participants)

    def warnings(self, config: WeightsConfig) -> list[str]:
        """Say that weights guarantee nothing."""
        if config.disclosed is None:
            return []
        return [f"weights ({config.disclosed}) are shared without noise, which guarantees nothing"]

    def takes_steps(self, config: WeightsConfig) -> bool:  # noqa: ARG002
        """Return False: a site trains for a whole round without a message."""
        return False

    def server(self, config: WeightsConfig, sites: Sequence[str], context: ServerContext) -> ServerMethod:
        """Build the server's half."""
        from mucald.methods.weights.server import WeightsServer

        return WeightsServer(config, sites, context)

    def site(
        self,
        name: str,
        config: WeightsConfig,
        home: Path,
        policy: Policy,
        store: CheckpointStore,
        device: torch.device,
    ) -> SiteMethod:
        """Build a site."""
        from mucald.data.loading import load_for
        from mucald.methods.weights.site import WeightsSite

        data = load_for(name, config, home, policy.tensorboard_images)
        return WeightsSite(name, config, data, self.disclosures(config), store, device)

    def network(self, model: "TrainedModel") -> nn.Module:
        """Return the site's network."""
        from mucald.nets.whole import trained_network, whole_plan

        config = model.config
        assert isinstance(config, WeightsConfig)
        plan = whole_plan(config.network, config.clip)
        return trained_network(plan, model.task, model.site_weights)

    def description(self, config: WeightsConfig) -> str:
        """Name the network and what of it was learnt together."""
        shared = ", ".join((*config.shared, *config.shared_in_group, *config.shared_in_modality))
        learnt = f"{shared} by {config.algorithm.name}" if shared else "trained alone"
        return f"{config.network.backbone} of one site; {learnt}"

    def server_keeps_models(self, config: WeightsConfig) -> bool:  # noqa: ARG002
        """Return False: the site has the whole network."""
        return False

    def disclosures(self, config: WeightsConfig, *_: Any, **__: Any) -> list[Disclosure]:
        """Return scores, and weights where any are shared."""
        shared = config.disclosed
        return [SCORES] if shared is None else [SCORES, weights(shared, "in every round")]
