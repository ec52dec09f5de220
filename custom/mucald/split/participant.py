"""A participant: built from its own folder, and what it keeps for itself at the end."""

from pathlib import Path

import torch

from mucald.algorithms import make_algorithm
from mucald.config import JobConfig
from mucald.data.dataset import SiteData, load_site_data
from mucald.data.site_file import SITE_FILE
from mucald.errors import DataError
from mucald.split.checkpoint import CheckpointStore, save_checkpoint
from mucald.split.pooled import PooledSite
from mucald.split.site import SplitSite
from mucald.tensorboard import write_previews

Participant = SplitSite | PooledSite


def create_site(name: str, config: JobConfig, home: Path, run_id: str, device: torch.device) -> Participant:
    """Build a site, or the participant that holds the data of all sites.

    Args:
        name: name of the site.
        config: the job.
        home: the site's own folder; its ``site.json`` names its images, and without one it draws phantoms.
            One that holds the data of all sites has a folder ``home/<site>`` with a ``site.json`` for each.
        run_id: names the run; its checkpoints lie in ``home/runs/<run_id>``.
        device: where to compute.

    Raises:
        DataError: a data file or an image is wrong, or the data of a site are missing where all must be.
        ConfigError: the job does not fit the site's task or image size.
    """
    store = CheckpointStore(home / "runs" / run_id)
    if make_algorithm(config.algorithm).pooled_at is None:
        return SplitSite(name, config, _load(name, config, home), store, device)
    _check_pooled_files(name, config, home)
    data = {site: _load(site, config, home / site) for site in config.sites}
    return PooledSite(name, config, data, store, device)


def _load(site: str, config: JobConfig, home: Path) -> SiteData:
    return load_site_data(
        site, config.site(site).task, config.data.image_size, config.data.phantoms, config.seed, home
    )


def _check_pooled_files(name: str, config: JobConfig, home: Path) -> None:
    """Check that a participant with images of its own has those of all sites, rather than draw the rest.

    Raises:
        DataError: naming the first file that is missing.
    """
    files = [home / site / SITE_FILE for site in config.sites]
    missing = [path for path in files if not path.exists()]
    if missing and (len(missing) < len(files) or (home / SITE_FILE).exists()):
        raise DataError(
            f"{missing[0]} is missing: '{name}' trains on the data of all sites and needs a {SITE_FILE} for "
            "each of them; without any it draws phantoms",
            public=f"'{name}' lacks {missing[0].parent.name}/{SITE_FILE}; it needs the data of all sites",
        )


def save_site_outputs(site: Participant, config: JobConfig, folder: Path) -> None:
    """Write the models of a participant that ran its test, and examples where a site allows pictures.

    Args:
        site: a participant that has run its test.
        config: the job.
        folder: the participant's own run folder.
    """
    for tested in site.tested():
        state = {"site": tested.site, "task": tested.task.name, "config": config.to_dict()}
        save_checkpoint(folder / "models" / f"{tested.site}.safetensors", tested.weights, state)
        if tested.previews is not None:
            # Below a folder of the site's name if the participant has another: reports look for it there.
            place = folder if tested.site == site.name else folder / tested.site
            write_previews(place / "tb_events", tested.site, tested.previews, config.training.rounds)
