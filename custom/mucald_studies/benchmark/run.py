"""A whole job in one process, in FLARE's simulator with its sites in turn and at once, and on real sites."""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mucald.deploy.session import Federation
from mucald.deploy.submission import exported
from mucald.errors import ConfigError, TrainingError
from mucald.home import HOME_VARIABLE
from mucald.methods.jobs import load_job
from mucald_studies.benchmark.carriers.loopback import SERVER, Loopback
from mucald_studies.benchmark.processes import Watched, execute, watched
from mucald_studies.benchmark.result import Check, Result, ratio
from mucald_studies.jobs import RESULTS, changed, command, write_job
from mucald_studies.reporting.page import Table
from mucald_studies.reporting.runs import RESULTS_FILE

IN_PROCESS, BARE, PARALLEL, PROVISIONED = "in process", "simulator", "simulator -t", "provisioned"
MAX_FEDERATED = 1.15
MAX_BARE = 1.5
MIN_ROUNDS = 2
_MEGA = 1e6
_POLL_S = 0.2


@dataclass(frozen=True)
class Outcome:
    """A run: its results, its processes, and the seconds from the results' writing to the last one's end."""

    results: Mapping[str, Any]
    seen: Watched
    ending: float


Runner = Callable[[Path, Path], Outcome]
"""Runs a job folder in a workspace."""


@dataclass(frozen=True)
class Measured:
    """One run.

    Args:
        whole: seconds of the command, from its start to its end.
        first_step: from the start to the first training step.
        steady: from the end of the first round to the end of the run, when all processes are up.
        rounds: from the end of the first round to the end of the last.
        ending: from the results to the end of the command: processes that are wound up.
        tasks: of all tasks of all sites, summed; not what their processes take to start and to end.
        images_per_s: in all rounds but the first.
        peaks: most memory of each participant's processes in bytes.
    """

    whole: float
    first_step: float
    steady: float
    rounds: float
    ending: float
    tasks: float
    images_per_s: float
    peaks: Mapping[str, int]


_TIMES = {
    "whole": "whole",
    "first_step": "to the first step",
    "steady": "first round's end to results",
    "rounds": "rounds but the first",
    "ending": "results to end",
    "tasks": "in tasks",
    "images_per_s": "images/s",
}


def measure(
    job: Path,
    changes: Mapping[str, Any],
    ways: Mapping[str, Runner],
    repeats: int = 1,
) -> dict[str, list[Measured]]:
    """Run a job, with values changed by dotted key, in every way, repeat after repeat.

    Raises:
        ConfigError: the job is wrong, or has less than two rounds.
        TrainingError: a run failed.
    """
    found: dict[str, list[Measured]] = {way: [] for way in ways}
    config = changed(job, changes)
    if config.training.rounds < MIN_ROUNDS:
        raise ConfigError(f"training.rounds must be at least {MIN_ROUNDS}: the first one is start-up")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy = write_job(job, folder / "job", config.to_dict())
        for repeat in range(repeats):
            for way, run in ways.items():
                outcome = run(copy, folder / f"{way}-{repeat}".replace(" ", "_"))
                found[way].append(measured(outcome, load_job(copy)[1]))
    return found


def here(threads: int, parallel: int) -> dict[str, Runner]:
    """Return the ways to run a job without provisioning: ``threads`` or ``parallel`` sites at once."""
    return {
        IN_PROCESS: _runner(threads, simulator=False),
        BARE: _runner(None, simulator=True),
        PARALLEL: _runner(parallel, simulator=True),
    }


def _runner(threads: int | None, simulator: bool) -> Runner:
    def run(job: Path, workspace: Path) -> Outcome:
        home, log = (workspace.with_name(workspace.name + suffix) for suffix in ("-home", ".log"))
        seen = execute(command(job, workspace, threads, simulator), {HOME_VARIABLE: str(home)}, log)
        ended, path = time.time(), workspace / RESULTS[simulator]
        return Outcome(json.loads(path.read_text(encoding="utf-8")), seen, ended - path.stat().st_mtime)

    return run


def on_provisioned(templates: Path, sites: Sequence[str], timeout_s: float = 3600.0) -> Runner:
    """Return what runs a job on sites that are provisioned, with ``templates`` in their kits, and started.

    The time is that from submission to the job's end: the participants' own processes run before it.
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


def measured(outcome: Outcome, sites: Sequence[str]) -> Measured:
    """Return what a run's results and its processes tell."""
    timing, whole = outcome.results["timing"], outcome.seen.seconds
    ends, training = timing["round_ends_s"], outcome.results["config"]["training"]
    images = sum(site["n_train"] for site in outcome.results["sites"].values())
    rounds = ends[-1] - ends[0]
    return Measured(
        whole=whole,
        # The server's own clock starts when its networks are built.
        first_step=whole - timing["wall_s"] - outcome.ending + (timing["first_step_s"] or 0.0),
        steady=timing["wall_s"] - ends[0],
        rounds=rounds,
        ending=outcome.ending,
        tasks=timing["tasks_s"],
        images_per_s=images * training["local_epochs"] * (len(ends) - 1) / rounds,
        peaks=peaks_by_process(outcome.seen, sites),
    )


def peaks_by_process(seen: Watched, sites: Sequence[str]) -> dict[str, int]:
    """Return the most memory in bytes that a process of each participant needed; ``server`` is the rest."""
    found: dict[str, int] = {}
    for number, peak in seen.peaks.items():
        # A site of the simulator has its name as an argument, a provisioned one in the path of its kit.
        words = {word for part in seen.commands.get(number, []) for word in part.split("/")}
        names = [site for site in sites if site in words]
        name = names[0] if len(names) == 1 else "server"
        found[name] = max(found.get(name, 0), peak)
    return found


def report(found: Mapping[str, Sequence[Measured]]) -> Result:
    """Return tables of times and of memory, and the ratios beside their limits."""
    times = {
        way: {name: median(getattr(run, name) for run in runs) for name in _TIMES}
        for way, runs in found.items()
    }
    seconds = [[way, *(f"{value:.1f}" for value in of_way.values())] for way, of_way in times.items()]
    names = list(dict.fromkeys(name for runs in found.values() for run in runs for name in run.peaks))
    memory = []
    for way, runs in found.items():
        peaks = [median(run.peaks.get(name, 0) for run in runs) / _MEGA for name in names]
        memory.append([way, *(f"{peak:.0f}" if peak else "–" for peak in peaks)])
    tables = {
        "seconds": Table(["", *_TIMES.values()], seconds),
        "peak memory of each process, MB": Table(["", *names], memory),
    }
    figures = {way: [asdict(run) for run in runs] for way, runs in found.items()}
    return Result("run", figures, tables, _checks(times))


def _checks(times: Mapping[str, Mapping[str, float]]) -> list[Check]:
    checks = []
    if {IN_PROCESS, PARALLEL} <= times.keys():
        steady = ratio(times[PARALLEL]["steady"], times[IN_PROCESS]["steady"])
        checks.append(Check("simulator -t / in process, start-up excluded", steady, MAX_FEDERATED))
    if {BARE, PARALLEL} <= times.keys():
        # One site at a time: what is in no task is the start and the end of processes.
        tasks = ratio(times[BARE]["tasks"], times[PARALLEL]["whole"])
        checks.append(Check("simulator without its process starts / simulator -t, whole", tasks, MAX_BARE))
    return checks
