"""A participant: built from its own folder, and what it keeps for itself at the end."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import torch

from mucald.config.job import JobConfig
from mucald.data.dataset import SiteData, load_site_data
from mucald.data.site_file import SITE_FILE
from mucald.errors import DataError
from mucald.methods.pooled.site import PooledSite
from mucald.methods.split.algorithms import make_algorithm
from mucald.methods.split.site.method import SplitSite
from mucald.methods.split.site.once import OnceSite
from mucald.privacy.accountant import meaning
from mucald.privacy.policy import Policy, check_job, read_policy
from mucald.results.tensorboard import write_previews
from mucald.state.checkpoint import CheckpointStore, save_checkpoint
from mucald.state.files import write_atomically

log = logging.getLogger(__name__)

Participant = SplitSite | PooledSite

ACCOUNT_FILE = "privacy_account.json"


def create_site(name: str, config: JobConfig, home: Path, run_id: str, device: torch.device) -> Participant:
    """Build a site, or the participant that holds the data of all sites.

    Args:
        name: name of the site.
        config: the job.
        home: the site's own folder; its ``site.json`` names its images, and without one it draws phantoms;
            its ``policy.json`` says what may leave. One that holds the data of all sites has a folder
            ``home/<site>`` with such files for each.
        run_id: names the run; its checkpoints lie in ``home/runs/<run_id>``.
        device: where to compute.

    Raises:
        DataError: a data file or an image is wrong, or the data of a site are missing where all must be.
        ConfigError: the job does not fit the site's task or image size.
        PolicyError: the site's policy is wrong, or refuses the job.
    """
    store = CheckpointStore(home / "runs" / run_id)
    if make_algorithm(config.algorithm).pooled_at is None:
        policy = read_policy(home, name)
        check_job(policy, name, config)
        kind = OnceSite if config.release.mode == "once" else SplitSite
        return kind(name, config, _load(name, config, home, policy), policy, store, device)
    # No release leaves a participant that trains alone, so of the sites' policies only pictures concern it.
    _check_pooled_files(name, config, home)
    data = {site: _load(site, config, home / site, read_policy(home / site, site)) for site in config.sites}
    return PooledSite(name, config, data, store, device)


def _load(site: str, config: JobConfig, home: Path, policy: Policy) -> SiteData:
    data = load_site_data(
        site, config.site(site).task, config.data.image_size, config.data.phantoms, config.seed, home
    )
    return replace(data, tensorboard_images=data.tensorboard_images and policy.tensorboard_images)


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

    A site that releases something also writes its account. That counts the images per patient, so it stays
    there; the server's results have the account of one.

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
    if isinstance(site, SplitSite):
        _save_account(site, folder)


def _save_account(site: SplitSite, folder: Path) -> None:
    own = site.account()
    write_atomically(folder / ACCOUNT_FILE, json.dumps(own.to_dict(), indent=2).encode())
    told = " ".join(meaning(own))
    log.info("site '%s', images per case %d: %s", site.name, own.images_per_case, told)
