"""The names of runs, which number a job's checkpoints."""

import re
import secrets
import time
from pathlib import Path
from typing import Any

from mucald.config.job import INDECISIVE, JobConfig
from mucald.errors import CheckpointError, ConfigError

LATEST = "latest"


def new_run(config: JobConfig) -> str:
    """Return a name for a run that begins now: ``<job>-<date>-<time>-<random>``."""
    # Sites may serve two servers that both begin a run of this job in the same second.
    return f"{time.strftime(f'{config.name}-%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"


def run_to_resume(config: JobConfig, runs: Path) -> str | None:
    """Return the run that a job asks to go on with, or None if it begins anew.

    Args:
        config: the job; ``resume_from`` names a run, or the latest.
        runs: the server's folder of all runs.

    Raises:
        ConfigError: ``resume_from`` cannot be the name of a run.
        CheckpointError: there is no earlier run of this job.
    """
    if config.resume_from is None:
        return None
    if not re.fullmatch(r"[\w.-]+", config.resume_from):
        raise ConfigError("resume_from must be the name of a run, as printed when it began, or 'latest'")
    if config.resume_from != LATEST:
        return config.resume_from
    latest = latest_run(config, runs)
    if latest is None:
        raise CheckpointError(f"resume_from: there is no earlier run of '{config.name}' in {runs}")
    return latest


def latest_run(config: JobConfig, runs: Path) -> str | None:
    """Return the name of a job's latest run, of those whose folders lie in ``runs``."""
    # The date tells this job's runs from those of another whose name only begins alike.
    return max((path.name for path in runs.glob(f"{config.name}-{'[0-9]' * 8}-*")), default=None)


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Return which decisive parts of a configuration changed, in words."""
    changed = {key for key in old | new if old.get(key) != new.get(key)} - INDECISIVE
    return ", ".join(sorted(changed)) + " changed"
