"""A site as a participant: built from its own folder, and what it keeps for itself at the end."""

from pathlib import Path

import torch

from mucald.config import JobConfig
from mucald.data.dataset import load_site_data
from mucald.split.checkpoint import CheckpointStore, save_checkpoint
from mucald.split.site import SplitSite
from mucald.tensorboard import write_previews


def create_site(name: str, config: JobConfig, home: Path, run_id: str, device: torch.device) -> SplitSite:
    """Build a site.

    Args:
        name: name of the site.
        config: the job.
        home: the site's own folder; its ``site.json`` names its images, and without one it draws phantoms.
        run_id: names the run; its checkpoints lie in ``home/runs/<run_id>``.
        device: where to compute.

    Raises:
        DataError: the site's data file or an image is wrong.
        ConfigError: the job does not fit the site's task or image size.
    """
    data = load_site_data(
        name, config.site(name).task, config.data.image_size, config.data.phantoms, config.seed, home
    )
    return SplitSite(name, config, data, CheckpointStore(home / "runs" / run_id), device)


def save_site_outputs(site: SplitSite, config: JobConfig, folder: Path) -> None:
    """Write a tested site's model, and its example predictions where the site allows pictures.

    Args:
        site: a site that has run its test.
        config: the job.
        folder: the site's own run folder.
    """
    state = {"site": site.name, "task": site.task.name, "config": config.to_dict()}
    save_checkpoint(folder / "models" / f"{site.name}.safetensors", site.weights(), state)
    if site.previews is not None:
        write_previews(folder / "tb_events", site.name, site.previews, config.training.rounds)
