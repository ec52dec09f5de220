"""Runs that are stopped, and what changes when they go on."""

from pathlib import Path

import pytest
from tiny_job import run_job

from mucald.federation.coordinator import Coordinator

RESUMED = {"resume_from": "latest", "description": "goes on", "runtime": {"step_timeout_s": 1.0}}
"""What changes with a resumption and decides no number."""


class StopError(Exception):
    """The run is stopped from outside."""


def run_until(config, folder: Path, round_number: int, when: str) -> str:
    """Run a job, stop it as it ends round ``round_number``, ``before`` or ``after``, and return its name."""
    close = Coordinator.close

    def closing(self, task):
        if (task.round, when) == (round_number, "before"):
            raise StopError
        close(self, task)
        if task.round == round_number:
            raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Coordinator, "close", closing)
        with pytest.raises(StopError):
            run_job(config, folder)
    assert not (folder / "results/server/results.json").exists()
    return max(path.name for path in (folder / "home/server/runs").iterdir())
