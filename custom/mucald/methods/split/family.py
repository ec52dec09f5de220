"""Split learning as a family: who takes part, either half, and what is said of it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mucald.data.measures import Measures, no_measures
from mucald.errors import ConfigError
from mucald.federation.method import ServerContext, ServerMethod, SiteMethod, TrainedModel
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.causal.graphs import CAUSAL_TASKS, measures_of, n_proxies
from mucald.methods.split.config import SplitConfig
from mucald.privacy.disclosure import Disclosure
from mucald.privacy.policy import OPEN, Policy
from mucald.state.checkpoint import CheckpointStore


class SplitFamily:
    """See :class:`mucald.federation.method.Family`."""

    config = SplitConfig
    takes_sites_in = False

    def participants(self, config: SplitConfig) -> list[str]:
        """Return the job's sites."""
        return list(config.sites)

    def members(self, config: SplitConfig, participant: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return the participant: a site answers for itself."""
        return (participant,)

    def check(self, config: SplitConfig, participants: Sequence[str]) -> None:
        """Check the algorithm, and that the sites' tasks can share what they share."""
        algorithm_of(config)
        counts = {site: n_proxies(config.crdm.encoder, config.site(site).task) for site in participants}
        if len(set(counts.values())) > 1:
            raise ConfigError(f"tasks that share an encoder need equally many causal variables, not {counts}")

    def warnings(self, config: SplitConfig) -> list[str]:
        """Return what the job lets the server see beyond what the method does."""
        found = []
        if not config.release.noised:
            found.append("latents leave WITHOUT noise: the server can see what the front ends see")
        algorithm = algorithm_of(config)
        known = "sealed, which the server relays" if algorithm.seals else "the server knows them"
        ends = " and ".join(end.replace("_", " ") + "s" for end in algorithm.shared_ends)
        groups = {algorithm.group(config, site) for site in config.sites} if ends else set()
        for members in sorted(groups - {()}):
            found.append(f"{ends} of {', '.join(members)} are shared: {known}")
        if () in groups:
            alone = sorted(site for site in config.sites if not algorithm.group(config, site))
            found.append(
                f"nobody shares ends with {', '.join(alone)}: each is alone in its group, which is its task "
                "unless 'sites.<site>.group' names another"
            )
        if algorithm.shares_front_end:
            found.append(
                "front ends are shared: the server knows them, which helps to invert what they release"
            )
        if config.handover.epochs:
            found.append(
                "middle networks are handed over: every site gets one that has learnt from all who share it"
            )
        return found

    def takes_steps(self, config: SplitConfig) -> bool:  # noqa: ARG002
        """Return True: every training step is a message."""
        return True

    def server(self, config: SplitConfig, sites: Sequence[str], context: ServerContext) -> ServerMethod:
        """Build the server's half."""
        # Imported here: a site's process has no use for it.
        from mucald.methods.split.server.method import SplitServerMethod

        return SplitServerMethod(config, sites, context)

    def site(
        self,
        name: str,
        config: SplitConfig,
        home: Path,
        policy: Policy,
        store: CheckpointStore,
        device: torch.device,
    ) -> SiteMethod:
        """Build a site."""
        from mucald.methods.split.site.build import build_site

        return build_site(name, config, home, policy, store, device)

    def network(self, model: TrainedModel) -> nn.Module:
        """Return front end, the server's part and back end as one, or the network that was handed over."""
        config = model.config
        assert isinstance(config, SplitConfig)
        if config.handover.epochs:
            from mucald.nets.whole import trained_network, whole_plan

            plan = whole_plan(config.network, config.release.clip)
            return trained_network(plan, model.task, model.site_weights)
        from mucald.methods.split.joined import JoinedModel

        return JoinedModel(model)

    def description(self, config: SplitConfig) -> str:
        """Name the parts, and the noise within them."""
        if config.handover.epochs:
            return f"split-federated {config.network.backbone}, handed over to the site and fine-tuned there"
        noise = "one fixed draw of the release's noise is part of the network"
        parts = "front end, server's part and back end joined"
        return (
            f"split-federated {config.network.backbone}, {parts}; "
            f"{noise if config.release.noised else 'without noise'}"
        )

    def server_keeps_models(self, config: SplitConfig) -> bool:
        """Return whether the deep layers lie there alone."""
        return not config.handover.epochs

    def measures(self, task: str) -> Measures:
        """Return the proxies of a task that has a causal graph."""
        return (measures_of if task in CAUSAL_TASKS else no_measures)(task)

    def replay(self, model: TrainedModel, home: Path) -> Callable[[Tensor], Tensor]:
        """Return the network of the test, with the site's noise; a network handed over has none."""
        if not model.server_weights:
            return model.network()
        from mucald.methods.split.as_tested import TestReplay

        return TestReplay(model, home)

    def disclosures(
        self, config: SplitConfig, policy: Policy = OPEN, images_per_case: int = 1
    ) -> list[Disclosure]:
        """Return latents, feature gradients and what else the job lets out."""
        from mucald.methods.split.disclosures import disclosures, under

        return disclosures(under(policy, config), images_per_case)
