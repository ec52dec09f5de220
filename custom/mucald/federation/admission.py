"""What is checked, and what is said, before a run begins."""

import logging
from collections.abc import Sequence

from mucald.config.job import JobConfig, check_site_names
from mucald.errors import ConfigError
from mucald.methods.split.algorithms import Algorithm
from mucald.tasks import get_task

log = logging.getLogger(__name__)


def check_sites(config: JobConfig, sites: list[str], algorithm: Algorithm) -> None:
    """Check that the sites that take part fit the job.

    Raises:
        ConfigError: a site has no task or a wrong name, there are fewer than ``min_sites``, or their tasks
            cannot share a network.
    """
    check_site_names(sites)
    if algorithm.pooled_at is not None and sites != [algorithm.pooled_at]:
        raise ConfigError(
            f"with the algorithm '{config.algorithm.name}' only '{algorithm.pooled_at}' takes part, not "
            f"{', '.join(sites)}; name it alone in meta.json's 'deploy_map'"
        )
    if len(sites) < config.min_sites:
        raise ConfigError(f"{len(sites)} sites take part, but min_sites is {config.min_sites}")
    members = list(config.sites) if algorithm.pooled_at is not None else sites
    counts = {site: len(get_task(config.site(site).task).graph.nodes) for site in members}
    if config.crdm.encoder != "none" and len(set(counts.values())) > 1:
        raise ConfigError(f"tasks that share an encoder need equally many causal variables, not {counts}")


def warn_of_exposure(config: JobConfig, sites: Sequence[str], algorithm: Algorithm) -> None:
    """Log what the job lets the server, or one site, see beyond what the method does."""
    if algorithm.pooled_at is not None:
        log.warning("the data of all sites lie TOGETHER at '%s', where one model trains", sites[0])
    elif not config.release.noised:
        log.warning("latents leave WITHOUT noise: the server can see what the front ends see")
    if config.release.mode == "memoised":
        log.warning("latents leave with MEMOISED noise: it cancels between releases; never use it")
    if algorithm.shares_front_end:
        log.warning("front ends are SHARED: the server knows them, which helps to invert what they release")
