"""Sharing synthetic embeddings as a family: who takes part, either half, and what is said of it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from mucald.errors import ConfigError, ModelError
from mucald.federation.method import ServerContext, ServerMethod, SiteMethod
from mucald.methods.generative.config import GenerativeConfig
from mucald.privacy.disclosure import Disclosure
from mucald.privacy.policy import OPEN, Policy
from mucald.state.checkpoint import CheckpointStore
from mucald.tasks import get_task

if TYPE_CHECKING:
    from mucald.data.site_data import SiteData
    from mucald.federation.method import TrainedModel
    from mucald.methods.generative.algorithms.base import Algorithm
    from mucald.methods.generative.spending import Spending

log = logging.getLogger(__name__)


class GenerativeFamily:
    """See :class:`mucald.federation.method.Family`."""

    config = GenerativeConfig

    def participants(self, config: GenerativeConfig) -> list[str]:
        """Return the job's sites, or the one participant that holds the data of all."""
        from mucald.methods.generative.disclosures import POOLED

        return [POOLED] if _algorithm(config).pooled else list(config.sites)

    def members(self, config: GenerativeConfig, participant: str) -> tuple[str, ...]:
        """Return the sites that a participant answers for."""
        return tuple(config.sites) if _algorithm(config).pooled else (participant,)

    def check(self, config: GenerativeConfig, participants: Sequence[str]) -> None:
        """Check that all sites have one task, of embeddings, and that the algorithm fits."""
        from mucald.methods.generative.algorithms.fedprox import FedProx

        algorithm = _algorithm(config)
        if algorithm.pooled and list(participants) != self.participants(config):
            raise ConfigError(
                f"with centralised only '{self.participants(config)[0]}' takes part, not "
                f"{', '.join(participants)}; name it alone in meta.json's 'deploy_map'"
            )
        for site in () if algorithm.pooled else participants:
            config.site(site)
        tasks = sorted({site.task for site in config.sites.values()})
        if len(tasks) > 1:
            raise ConfigError(f"sites that share embeddings need one task, not {', '.join(tasks)}")
        if get_task(tasks[0]).input != "embedding":
            raise ConfigError(
                f"task '{tasks[0]}' has no embeddings; the method 'generative' takes nothing else"
            )
        if isinstance(algorithm, FedProx) and config.privacy.epsilon is not None:
            raise ConfigError("fedprox trains without noise: set privacy.epsilon to null, or take fedavg")

    def warnings(self, config: GenerativeConfig) -> list[str]:
        """Say what has no guarantee."""
        algorithm = _algorithm(config)
        if algorithm.pooled:
            return ["the embeddings of all sites lie TOGETHER in one place, where one classifier trains"]
        if algorithm.part is not None and config.privacy.epsilon is None:
            return [f"weights ({algorithm.part}) are shared without noise, which guarantees nothing"]
        return []

    def takes_steps(self, config: GenerativeConfig) -> bool:  # noqa: ARG002
        """Return False: a site trains for a whole round without a message."""
        return False

    def server(
        self,
        config: GenerativeConfig,
        sites: Sequence[str],
        context: ServerContext,  # noqa: ARG002 - the engine keeps what it has
    ) -> ServerMethod:
        """Build the server's half."""
        from mucald.methods.generative.server import GenerativeServer

        return GenerativeServer(config, sites)

    def site(
        self,
        name: str,
        config: GenerativeConfig,
        home: Path,
        policy: Policy,
        store: CheckpointStore,
        device: torch.device,  # noqa: ARG002 - the networks are so small that a GPU would be slower
    ) -> SiteMethod:
        """Build a site, and enter the job into its ledger if it trains with noise."""
        from mucald.data.loading import load_for
        from mucald.methods.generative.centralised_site import CentralisedSite
        from mucald.methods.generative.features import check_set
        from mucald.methods.generative.origins import check_alike
        from mucald.methods.generative.site import GenerativeSite

        if _algorithm(config).pooled:
            data = {site: load_for(site, config, home / site, pictures=False) for site in config.sites}
            sets = {site: of_site.train.content for site, of_site in data.items()}  # type: ignore[attr-defined]
            for site, content in sets.items():
                check_set(config.features, content, site)
            check_alike(sets)
            return CentralisedSite(name, config, data)
        own = load_for(name, config, home, pictures=False)
        check_set(config.features, own.train.content, name)  # type: ignore[attr-defined]
        spending = _spending(name, config, home, policy, own, store)
        found = self.disclosures(config, policy, own.images_per_case)
        return GenerativeSite(name, config, own, found, spending, store)

    def network(self, model: "TrainedModel") -> nn.Module:
        """Refuse: what a site has are classifiers of embeddings.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            f"the model of site '{model.site}' classifies embeddings, not images; its classifiers are the "
            "tensors 'local' and 'shared' of its file, for features of an embedding set"
        )

    def description(self, config: GenerativeConfig) -> str:
        """Name the algorithm and its guarantee."""
        guarantee = config.privacy.guarantee
        said = (
            "without noise" if guarantee is None else f"at ε = {guarantee.epsilon:g}, δ = {guarantee.delta:g}"
        )
        return f"classifiers of embeddings of {config.features.backbone}; {config.algorithm.name} {said}"

    def server_keeps_models(self, config: GenerativeConfig) -> bool:  # noqa: ARG002
        """Return False: the site has all of its classifiers."""
        return False

    def disclosures(
        self,
        config: GenerativeConfig,
        policy: Policy = OPEN,  # noqa: ARG002 - the job decides
        images_per_case: int = 1,
    ) -> list[Disclosure]:
        """Return scores, and what is trained together."""
        from mucald.methods.generative.disclosures import disclosures

        return disclosures(config, images_per_case)


def _algorithm(config: GenerativeConfig) -> "Algorithm":
    from mucald.methods.generative.algorithms import make_algorithm

    return make_algorithm(config.algorithm)


def _spending(
    name: str,
    config: GenerativeConfig,
    home: Path,
    policy: Policy,
    data: "SiteData",
    store: CheckpointStore,
) -> "Spending | None":
    """Enter the job into the site's ledger, and return what bounds its steps; None without noise."""
    from mucald.data.site_file import has_site_file
    from mucald.methods.generative.disclosures import steps_of
    from mucald.methods.generative.spending import Spending, private_step
    from mucald.privacy.dp.ledger import Ledger, Plan

    guarantee, algorithm = config.privacy.guarantee, _algorithm(config)
    if guarantee is None or algorithm.part is None:
        return None
    releases = steps_of(config)
    if config.privacy.delta >= 1 / len(data.train):
        log.warning(
            "site '%s' trains on %d images, and δ = %g is not below 1 / %d: it would allow to give one away",
            name,
            len(data.train),
            config.privacy.delta,
            len(data.train),
        )
    ledger, hashes = Ledger(home, name), data.train.hashes  # type: ignore[attr-defined]
    plan = Plan(store.folder.name, config.name, hashes, guarantee.mu, releases)
    limit, delta = policy.limit("weights", "max_total_epsilon"), policy.limit("weights", "max_delta")
    total = ledger.reserve(plan, limit, delta or config.privacy.delta)
    log.info("site '%s': all jobs with its images have ε = %.4g together", name, total)
    phantoms = not has_site_file(home)
    return Spending(private_step(config), data.noise_secret, config.digest(), phantoms, ledger, plan)
