"""A site of a split job, built from its own folder."""

from pathlib import Path

import torch

from mucald.data.loading import load_for
from mucald.data.measures import no_measures
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.causal.graphs import measures_of
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.disclosures import under
from mucald.methods.split.site.method import SplitSite
from mucald.methods.split.site.release import Release
from mucald.privacy.policy import Policy
from mucald.privacy.sealing import group_key
from mucald.state.checkpoint import CheckpointStore


def build_site(
    name: str, config: SplitConfig, home: Path, policy: Policy, store: CheckpointStore, device: torch.device
) -> SplitSite:
    """Build a site; arguments and errors are those of :meth:`mucald.federation.method.Family.site`."""
    algorithm, key = algorithm_of(config), b""
    if algorithm.seals and algorithm.group(config, name):
        of_site = config.site(name)
        key = group_key(home, name, of_site.group or of_site.task, config.seed)
    measures = no_measures if config.crdm.encoder == "none" else measures_of
    data = load_for(name, config, home, policy.tensorboard_images, measures)
    release = Release(under(policy, config).release, data.noise_secret, name)
    return SplitSite(name, config, data, release, store, device, key)
