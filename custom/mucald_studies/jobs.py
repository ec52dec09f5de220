"""Job folders with other values, and the commands that run them."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mucald.config.job import CONFIG_FILE, JobConfig
from mucald.config.merge import overridden
from mucald.config.schema import read_json
from mucald.methods.jobs import load_job, parse_config

RESULTS = {False: "server/results.json", True: "server/simulate_job/results.json"}
"""Where a run in one process, and in FLARE's simulator, leaves its results in the workspace."""


def changed(job: Path, changes: Mapping[str, Any]) -> JobConfig:
    """Return a job's configuration with values changed by dotted key.

    Raises:
        ConfigError: the job is wrong, or a key does not exist.
    """
    return parse_config(overridden(load_job(job)[0].to_dict(), changes))


def write_job(
    job: Path, folder: Path, content: Mapping[str, Any], swaps: Mapping[str, str] | None = None
) -> Path:
    """Write a copy of a job with another whole configuration, and return its folder.

    A copy from before is replaced. ``swaps`` replaces texts of FLARE's own configuration, such as a class.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(job, folder)
    (app,) = read_json(folder / "meta.json")["deploy_map"]
    (folder / app / "config" / CONFIG_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for path in folder.glob(f"{app}/config/config_fed_*.json"):
        text = path.read_text(encoding="utf-8")
        for old, new in (swaps or {}).items():
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    return folder


def command(job: Path, workspace: Path, threads: int | None, simulator: bool) -> list[str]:
    """Return the command that runs a job, in one process or in FLARE's simulator, so many sites at once."""
    # A workspace that a run has left unfinished is begun empty, as FLARE's simulator does by itself.
    start = [sys.executable, "-m", "mucald", "--force"]
    if simulator:
        start = [str(Path(sys.executable).with_name("nvflare")), "simulator"]
    return [*start, str(job), "-w", str(workspace)] + (["-t", str(threads)] if threads else [])
