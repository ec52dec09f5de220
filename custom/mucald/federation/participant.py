"""A participant: built from its own folder, and what it keeps for itself at the end."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import torch

from mucald.config.job import JobConfig
from mucald.data.source import data_line
from mucald.errors import explained
from mucald.federation.method import Family, SiteMethod
from mucald.privacy.policy import Policy, check_disclosures, read_policy
from mucald.results.tensorboard import write_previews
from mucald.state.checkpoint import CheckpointStore, save_checkpoint
from mucald.state.files import write_atomically

log = logging.getLogger(__name__)

ACCOUNT_FILE = "privacy_account.json"
FILES = "files"
"""Folder of what a method keeps beside models."""


def data_lines(family: Family, name: str, config: JobConfig, home: Path) -> Iterator[str]:
    """Yield in words what each site of a participant is going to train on; they name folders, so stay there.

    Arguments are those of :func:`create_site`.
    """
    for member in family.members(config, name):
        yield data_line(member, config, home if member == name else home / member)


def create_site(
    family: Family, name: str, config: JobConfig, home: Path, run_id: str, device: torch.device
) -> SiteMethod:
    """Build a site, or a participant that answers for several, unless a policy of theirs refuses the job.

    Args:
        family: the job's family of methods.
        name: name of the participant.
        config: the job.
        home: its own folder; its ``site.json`` names its images, and without one it draws phantoms; its
            ``policy.json`` says what may leave. One that answers for several has a folder of each in it.
        run_id: names the run; its checkpoints lie in ``home/runs/<run_id>``.
        device: where to compute.

    Raises:
        DataError: a data file or an image is wrong, or the data of a site are missing where all must be.
        ResourceError: the file system refuses a file.
        ConfigError: the job does not fit the site's task or image size.
        PolicyError: the site's policy is wrong, or refuses the job.
    """
    policy = read_policy(home, name)
    _check(family, name, config, policy)
    for member in family.members(config, name):
        if member != name:
            _check(family, member, config, read_policy(home / member, member))
    try:
        return family.site(name, config, home, policy, CheckpointStore(home / "runs" / run_id), device)
    except Exception as error:
        log.debug("site '%s' cannot be built", name, exc_info=True)
        raise explained(error, reading=home) from error


def _check(family: Family, site: str, config: JobConfig, policy: Policy) -> None:
    check_disclosures(policy, site, family.disclosures(config, policy), config.runtime.record)


def save_site_outputs(site: SiteMethod, config: JobConfig, folder: Path) -> None:
    """Write the models of a participant that ran its test, and examples where a site allows pictures.

    A site that discloses something also writes its account. That counts the images per patient, so it stays
    there; the server's results have the account of one.

    Args:
        site: a participant that has run its test.
        config: the job.
        folder: the participant's own run folder.
    """
    for tested in site.tested():
        state = {"site": tested.site, "task": tested.task.name, "config": config.to_dict()}
        save_checkpoint(folder / "models" / f"{tested.site}.safetensors", tested.weights, state)
        for name, content in tested.files.items():
            write_atomically(folder / FILES / tested.site / name, content)
        if tested.previews is not None:
            # Below a folder of the site's name if the participant has another: reports look for it there.
            place = folder if tested.site == site.name else folder / tested.site
            write_previews(place / "tb_events", tested.site, tested.previews, config.training.rounds)
    if (own := site.account()) is not None:
        path = folder / ACCOUNT_FILE
        write_atomically(path, json.dumps(own, indent=2).encode())
        log.info("site '%s': what left it, and what that can tell, is in %s", site.name, path)
