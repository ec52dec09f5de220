"""Job folders made for a measurement, and the commands that run them."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mucald.config.job import CONFIG_FILE
from mucald.config.merge import overridden
from mucald.config.schema import read_json
from mucald.methods.jobs import load_job


def variant(
    job: Path, folder: Path, changes: Mapping[str, Any], swaps: Mapping[str, str] | None = None
) -> Path:
    """Write a copy of a job with some values changed and return its folder.

    Args:
        job: the job folder.
        folder: where the copy goes; one from before is replaced.
        changes: values of ``mucald.json`` by dotted key.
        swaps: texts of FLARE's own configuration to be replaced, such as a component's class.

    Raises:
        ConfigError: the job is wrong, or a key does not exist.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(job, folder)
    config = _config_folder(folder)
    content = variant_content(job, changes)
    (config / CONFIG_FILE).write_text(json.dumps(content, indent=2), encoding="utf-8")
    for path in config.glob("config_fed_*.json"):
        text = path.read_text(encoding="utf-8")
        for old, new in (swaps or {}).items():
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    load_job(folder)
    return folder


def variant_content(job: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job's whole configuration with values changed by dotted key.

    Raises:
        ConfigError: the job is wrong, or a key does not exist.
    """
    return overridden(load_job(job)[0].to_dict(), changes)


def _config_folder(job: Path) -> Path:
    (app,) = read_json(job / "meta.json")["deploy_map"]
    return job / app / "config"


def simulator_command(job: Path, workspace: Path, threads: int | None) -> list[str]:
    """Return the command that runs a job in FLARE's simulator; without ``threads`` as a user would."""
    nvflare = str(Path(sys.executable).with_name("nvflare"))
    return [nvflare, "simulator", str(job), "-w", str(workspace)] + (["-t", str(threads)] if threads else [])


def process_command(job: Path, workspace: Path, threads: int) -> list[str]:
    """Return the command that runs a job in one process."""
    return [sys.executable, "-m", "mucald", str(job), "-w", str(workspace), "-t", str(threads)]
