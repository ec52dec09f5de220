"""Training on pooled data as a family: one participant answers for all sites."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mucald.data.site_file import SITE_FILE, has_site_file
from mucald.errors import ConfigError, DataError
from mucald.federation.method import ServerContext, ServerMethod, SiteMethod, TrainedModel
from mucald.methods.pooled.config import PooledConfig
from mucald.privacy.disclosure import SCORES, Disclosure
from mucald.privacy.policy import Policy, read_policy
from mucald.state.checkpoint import CheckpointStore


class PooledFamily:
    """See :class:`mucald.federation.method.Family`."""

    config = PooledConfig
    takes_sites_in = False

    def participants(self, config: PooledConfig) -> list[str]:
        """Return the one participant."""
        return [config.participant]

    def members(self, config: PooledConfig, participant: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return all sites."""
        return tuple(config.sites)

    def check(self, config: PooledConfig, participants: Sequence[str]) -> None:
        """Check that nobody else takes part."""
        if list(participants) != [config.participant]:
            raise ConfigError(
                f"with the method 'pooled' only '{config.participant}' takes part, not "
                f"{', '.join(participants)}; name it alone in meta.json's 'deploy_map'"
            )
        config.groups()

    def warnings(self, config: PooledConfig) -> list[str]:
        """Say where the data lie."""
        return [f"the data of all sites lie TOGETHER at '{config.participant}', where one model trains"]

    def takes_steps(self, config: PooledConfig) -> bool:  # noqa: ARG002
        """Return False: nothing is sent but reports."""
        return False

    def server(self, config: PooledConfig, sites: Sequence[str], context: ServerContext) -> ServerMethod:  # noqa: ARG002
        """Return a server that holds nothing, and keeps the minutes."""
        return ServerMethod()

    def site(
        self,
        name: str,
        config: PooledConfig,
        home: Path,
        policy: Policy,  # noqa: ARG002 - only pictures concern it, which each site's own policy allows
        store: CheckpointStore,
        device: torch.device,
    ) -> SiteMethod:
        """Build the participant; it has a folder ``home/<site>`` with the files of each site."""
        from mucald.data.loading import load_for
        from mucald.methods.pooled.site import PooledSite

        _check_files(name, config, home)
        data = {
            site: load_for(site, config, home / site, read_policy(home / site, site).tensorboard_images)
            for site in config.sites
        }
        return PooledSite(name, config, data, store, device)

    def network(self, model: TrainedModel) -> nn.Module:
        """Return front end, middle network and the site's back end as one."""
        from mucald.nets.whole import trained_network, whole_plan

        config = model.config
        assert isinstance(config, PooledConfig)
        plan = whole_plan(config.network, config.clip)
        return trained_network(plan, model.task, model.site_weights)

    def description(self, config: PooledConfig) -> str:
        """Name the network."""
        return f"{config.network.backbone}, trained on the data of all sites in one place"

    def server_keeps_models(self, config: PooledConfig) -> bool:  # noqa: ARG002
        """Return False: the participant has the whole network."""
        return False

    def disclosures(self, config: PooledConfig, *_: Any, **__: Any) -> list[Disclosure]:
        """Return the reports alone, and say that the data themselves have moved before the run."""
        moved = f"The images of all sites lie at '{config.participant}', where they came before the run."
        return [replace(SCORES, meaning=(*SCORES.meaning, moved))]


def _check_files(name: str, config: PooledConfig, home: Path) -> None:
    """Check that a participant with images of its own has those of all sites, rather than draw the rest.

    Raises:
        DataError: naming the first file that is missing.
    """
    files = [home / site / SITE_FILE for site in config.sites]
    missing = [path for path in files if not has_site_file(path.parent)]
    if missing and (len(missing) < len(files) or has_site_file(home)):
        raise DataError(
            f"{missing[0]} is missing: '{name}' trains on the data of all sites and needs a {SITE_FILE} for "
            "each of them; without any it draws phantoms",
            public=f"'{name}' lacks {missing[0].parent.name}/{SITE_FILE}; it needs the data of all sites",
        )
