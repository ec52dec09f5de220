"""A whole job on provisioned sites: separate processes of this machine, mutual TLS."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from mucald.deploy.session import Federation
from mucald.deploy.submission import exported
from mucald.errors import TrainingError
from mucald_studies.benchmark.carriers.loopback import SERVER, Loopback
from mucald_studies.benchmark.processes import watched
from mucald_studies.benchmark.run import Outcome, Runner
from mucald_studies.reporting.runs import RESULTS_FILE

PROVISIONED = "provisioned"
_POLL_S = 0.2


def runner(templates: Path, sites: Sequence[str], timeout_s: float = 3600.0) -> Runner:
    """Return what runs a job on sites that are provisioned and started for it.

    The time is that from submission to the job's end: the participants' own processes run before it.

    Args:
        templates: the project file, and what is laid into the kits.
        sites: names of the job's sites.
        timeout_s: how long a job may take.
    """

    def run(job: Path, workspace: Path) -> Outcome:
        workspace.mkdir(parents=True)
        with Loopback.running(templates, workspace, sites) as federation, federation.admin as admin:
            with (
                watched([process.pid for process in federation.processes.values()]) as seen,
                exported(job, False) as submitted,
            ):
                job_id = admin.submit(submitted)
                written = _wait(admin, job_id, federation.kits / SERVER, timeout_s)
                ended = time.time()
            found = admin.download(job_id, workspace / "results") / "workspace" / RESULTS_FILE
            if not found.exists():
                raise TrainingError(f"job {job_id} left no results:\n{federation.console(SERVER)[-2000:]}")
        return Outcome(json.loads(found.read_text(encoding="utf-8")), seen, ended - written)

    return run


def _wait(admin: Federation, job_id: str, server: Path, timeout_s: float) -> float:
    """Wait for a job's end; return when its results were written, or the end if they were not.

    Raises:
        TrainingError: it takes longer than ``timeout_s``.
    """
    end, written = time.monotonic() + timeout_s, None
    while not admin.status(job_id).startswith("FINISHED"):
        if time.monotonic() > end:
            raise TrainingError(f"job {job_id} takes longer than {timeout_s:g} s")
        # FLARE removes the run's folder when it has stored it.
        for path in server.glob(f"{job_id}/**/{RESULTS_FILE}"):
            written = path.stat().st_mtime
        time.sleep(_POLL_S)
    return time.time() if written is None else written
