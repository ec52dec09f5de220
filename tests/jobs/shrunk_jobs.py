"""The shipped jobs, with their switches as they are and their sizes as small as they get."""

from pathlib import Path
from typing import Any

from tiny_job import REPOSITORY

from mucald.config.job import JobConfig
from mucald.config.schema import read_json
from mucald.methods.jobs import load_job, parse_config

ROOT = REPOSITORY / "jobs"
JOBS = sorted(path.parent for path in ROOT.glob("*/meta.json"))

SITES = (
    *("embryo", "skin", "polyp", "polyp_a", "polyp_b", "skin_a", "liver", "brain", "lesion"),
    *("site_01", "site_02", "site_03"),
)
"""Those that a shrunk job keeps; in a consortium two have the same task, of volumes two the same modality."""

# A Swin stage halves the side; with three widths it has as many as the others.
_FEATURES = {"swin_unet": [8, 16, 32]}


def base_of_file(job: Path) -> str:
    """Return the name of the base that a job folder's file gives."""
    return read_json(job / "app/config/mucald.json")["base"]


def resolved(job: Path | str) -> dict[str, Any]:
    """Return the whole configuration of a job."""
    return load_job(ROOT / job)[0].to_dict()


def shrunk(job: Path | str) -> JobConfig:
    """Return a job of three sites and two rounds, which takes less than a second."""
    content = resolved(job)
    content["sites"] = {site: content["sites"][site] for site in SITES if site in content["sites"]}
    volumes = {"patch_size": [16, 16, 16], "phantom_size": [16, 16, 16]}
    content["data"] = {
        "image_size": 16,
        "phantoms": {"train": 4, "validation": 2, "test": 2},
        "volumes": volumes,
    }
    epochs = 1 + content.get("algorithm", {}).get("args", {}).get("head_epochs", 0)
    content["training"] |= {"rounds": 2, "local_epochs": epochs, "batch_size": 2}
    for site in content["sites"].values():
        site["joins_at_round"] = min(site["joins_at_round"], 1)
    if content["method"] == "generative":
        return parse_config(content)
    network = content["network"]
    if network["backbone"] == "dynunet":
        network |= {"features": [4, 6, 8], "adaptor_channels": 4}
        return parse_config(content)
    without_server = network["cut"] == len(network["features"])
    network |= {"features": _FEATURES.get(network["backbone"], [8, 16, 16]), "latent_channels": 4}
    network["cut"] = min(network["cut"], 1)
    if without_server:
        network |= {"features": [8, 16], "cut": 2}
    if content["method"] == "split":
        release = content["release"]
        release["pretraining_epochs"] = min(release["pretraining_epochs"], 1)
        content["handover"]["epochs"] = min(content["handover"]["epochs"], 1)
        content["crdm"] |= {"encoder_width": 8, "causal_hidden": 8, "denoiser_width": 8}
        content["daca"] |= {"width": 8, "buffer": 4, "steps": 2, "batch_per_site": 2}
    return parse_config(content)
