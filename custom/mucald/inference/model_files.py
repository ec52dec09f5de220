"""The files that a run leaves of a site's model: the site's own part, and the server's."""

from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any

from torch import Tensor

from mucald.config.job import JobConfig
from mucald.errors import CheckpointError, ConfigError, ModelError
from mucald.federation.method import TrainedModel
from mucald.methods import family_of
from mucald.methods.jobs import parse_config
from mucald.state.checkpoint import load_checkpoint
from mucald.tasks import get_task

FOLDER = "models"
_SERVER = "server"
_OF_SITE = ("front_end.", "adaptor.", "local.", "shared.")
"""The last two are classifiers of embeddings, which their family refuses with its own words."""


def find_model_files(run: Path, site: str) -> tuple[Path, Path | None]:
    """Return a site's file and the server's for it, anywhere below the folder of a run.

    A file that lies below a folder ``server`` is the server's.

    Raises:
        ModelError: the site's file is missing, or there are several of one kind.
    """
    if not run.is_dir():
        raise ModelError(f"{run} is no folder; give the folder that a run wrote its results to")
    own: list[Path] = []
    of_server: list[Path] = []
    for path in sorted(run.rglob(f"{FOLDER}/{escape(site)}.safetensors")):
        (of_server if _SERVER in path.relative_to(run).parts else own).append(path)
    if not own:
        known = sorted({path.stem for path in run.rglob(f"{FOLDER}/*.safetensors")})
        found = f"; there are models of {', '.join(known)}" if known else "; let the run reach its test"
        raise ModelError(f"{run}: no model of site '{site}'{found}")
    for files in (own, of_server):
        if len(files) > 1:
            raise ModelError(
                f"{run} holds several models of site '{site}': {files[0]} and {files[1]}; give the folder of "
                "one run, or name the files"
            )
    return own[0], of_server[0] if of_server else None


def load_model(site_file: Path, server_file: Path | None) -> TrainedModel:
    """Read the files of a site's model.

    Args:
        site_file: what the participant wrote that ran the site's test.
        server_file: what the server wrote for the site; None where the site has all of it.

    Raises:
        ModelError: a file is missing or damaged, is not of that kind, or the two are of different sites,
            tasks or jobs.
    """
    site_weights, state = _read(site_file)
    if not any(name.startswith(_OF_SITE) for name in site_weights) or "site" not in state:
        raise ModelError(f"{site_file} is no site's model: it holds no front end, adaptor or classifier")
    config = _config_of(site_file, state)
    family = family_of(config.method)
    model = TrainedModel(state["site"], get_task(state["task"]), config, family, site_weights, {})
    if not family.server_keeps_models(config):
        return model
    if server_file is None:
        raise ModelError(
            f"{site_file} is one part of the model; the server's part of site '{model.site}' lies in "
            f"{FOLDER}/{model.site}.safetensors of the server's run folder: ask the operator for it"
        )
    server_weights, other = _read(server_file)
    if any(name.startswith("back_end.") for name in server_weights):
        raise ModelError(f"{server_file} is a site's model; the server's lies in the server's run folder")
    for key in ("site", "task"):
        if other.get(key) != state[key]:
            raise ModelError(
                f"{server_file} is of the {key} '{other.get(key)}', {site_file} of '{state[key]}'; give two "
                "files of one site and run"
            )
    if _config_of(server_file, other).digest() != config.digest():
        raise ModelError(f"{server_file} and {site_file} are of runs with different configurations")
    return replace(model, server_weights=server_weights)


def _config_of(path: Path, state: dict[str, Any]) -> JobConfig:
    try:
        return parse_config(state["config"])
    except ConfigError as error:
        raise ModelError(f"{path} was trained with a job that this version does not know: {error}") from None


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        return load_checkpoint(path)
    except CheckpointError as error:
        raise ModelError(
            f"{error}; a model is two files, '{path.name}' and '{path.name}.sha256' beside it"
        ) from None
