"""A site of a split job, built from its own folder."""

from pathlib import Path

import torch

from mucald.data.dataset import Measures, load_for
from mucald.methods.split.causal.graphs import causal_task
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.disclosures import disclosures, under
from mucald.methods.split.site.method import SplitSite
from mucald.methods.split.site.release import Release
from mucald.privacy.policy import Policy, check_disclosures
from mucald.state.checkpoint import CheckpointStore


def measures_of(task: str) -> Measures:
    """Return what is measured in samples of a task: the proxies of its causal graph."""
    return causal_task(task).measures


def build_site(
    name: str, config: SplitConfig, home: Path, policy: Policy, store: CheckpointStore, device: torch.device
) -> SplitSite:
    """Build a site; arguments and errors are those of :meth:`mucald.federation.method.Family.site`."""
    carried_out = under(policy, config)
    check_disclosures(policy, name, disclosures(carried_out))
    data = load_for(name, config, home, policy.tensorboard_images, measures_of)
    release = Release(carried_out.release, data.noise_secret, name)
    return SplitSite(name, config, data, release, store, device)
