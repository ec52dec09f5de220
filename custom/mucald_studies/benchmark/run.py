"""A whole job in one process, and in FLARE's simulator with its sites in turn and at once."""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from mucald.config.job import JobConfig
from mucald.errors import ConfigError
from mucald.home import HOME_VARIABLE
from mucald.methods.jobs import load_job
from mucald_studies.benchmark.jobs import process_command, simulator_command, variant
from mucald_studies.benchmark.processes import Watched, execute
from mucald_studies.benchmark.result import Check, Result, ratio
from mucald_studies.reporting.page import Table

IN_PROCESS, BARE, PARALLEL = "in process", "simulator", "simulator -t"
MAX_FEDERATED = 1.15
MAX_BARE = 1.5
MIN_ROUNDS = 2
_MEGA = 1e6
_LOCAL = "server/results.json"
_SIMULATED = "server/simulate_job/results.json"


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Args:
        results: content of ``results.json``.
        seen: its processes.
        ending: seconds from the writing of the results to the end of the last process.
    """

    results: Mapping[str, Any]
    seen: Watched
    ending: float


Runner = Callable[[Path, Path], Outcome]
"""Runs a job folder in a workspace."""


@dataclass(frozen=True)
class RunPlan:
    """What to measure.

    Args:
        job: the job folder.
        threads: sites at once in one process.
        parallel: the same in the simulator that is run with ``-t``.
        carriers: which ways to run it.
        repeats: how often each; interleaved, and the median counts.
        changes: further values of ``mucald.json`` by dotted key.
    """

    job: Path
    threads: int
    parallel: int
    carriers: Sequence[str] = (IN_PROCESS, BARE, PARALLEL)
    repeats: int = 1
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """The seconds of one run.

    Args:
        whole: of the command, from its start to its end.
        first_step: from the start to the first training step.
        steady: from the end of the first round to the end of the run, when all processes are up.
        rounds: from the end of the first round to the end of the last.
        ending: from the results to the end of the command: processes that are wound up.
        tasks: of all tasks of all sites, summed; not what their processes take to start and to end.
    """

    whole: float
    first_step: float
    steady: float
    rounds: float
    ending: float
    tasks: float


@dataclass(frozen=True)
class Measured:
    """One run: its times, images per second in all rounds but the first, and peak memory by process."""

    timing: Timing
    images_per_s: float
    peaks: Mapping[str, int]


def measure(plan: RunPlan, runners: Mapping[str, Runner] | None = None) -> dict[str, list[Measured]]:
    """Run the job in every way, repeat after repeat.

    Args:
        plan: what to run.
        runners: further ways to run it, by name.

    Raises:
        ConfigError: the job is wrong, or has less than two rounds.
        TrainingError: a run failed.
    """
    found: dict[str, list[Measured]] = {carrier: [] for carrier in plan.carriers}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = variant(plan.job, folder / "job", plan.changes)
        config, sites = load_job(job)
        if config.training.rounds < MIN_ROUNDS:
            raise ConfigError(f"training.rounds must be at least {MIN_ROUNDS}: the first one is start-up")
        ways = _runners(plan) | dict(runners or {})
        for repeat in range(plan.repeats):
            for carrier in plan.carriers:
                outcome = ways[carrier](job, folder / f"{carrier}-{repeat}".replace(" ", "_"))
                found[carrier].append(_measured(config, sites, outcome))
    return found


def _runners(plan: RunPlan) -> dict[str, Runner]:
    def command_runner(command: Callable[[Path, Path], list[str]], results: str) -> Runner:
        def run(job: Path, workspace: Path) -> Outcome:
            home = workspace.with_name(workspace.name + "-home")
            log = workspace.with_name(workspace.name + ".log")
            seen = execute(command(job, workspace), {HOME_VARIABLE: str(home)}, log)
            ended, path = time.time(), workspace / results
            return Outcome(json.loads(path.read_text(encoding="utf-8")), seen, ended - path.stat().st_mtime)

        return run

    return {
        IN_PROCESS: command_runner(lambda job, ws: process_command(job, ws, plan.threads), _LOCAL),
        BARE: command_runner(lambda job, ws: simulator_command(job, ws, None), _SIMULATED),
        PARALLEL: command_runner(lambda job, ws: simulator_command(job, ws, plan.parallel), _SIMULATED),
    }


def _measured(config: JobConfig, sites: Sequence[str], outcome: Outcome) -> Measured:
    timing, whole = outcome.results["timing"], outcome.seen.seconds
    ends = timing["round_ends_s"]
    images = sum(site["n_train"] for site in outcome.results["sites"].values())
    rounds = ends[-1] - ends[0]
    # The server's own clock starts when its networks are built.
    before = whole - timing["wall_s"] - outcome.ending
    return Measured(
        Timing(
            whole,
            before + (timing["first_step_s"] or 0.0),
            timing["wall_s"] - ends[0],
            rounds,
            outcome.ending,
            timing["tasks_s"],
        ),
        images * config.training.local_epochs * (len(ends) - 1) / rounds,
        peaks_by_process(outcome.seen, sites),
    )


def peaks_by_process(seen: Watched, sites: Sequence[str]) -> dict[str, int]:
    """Return the most memory in bytes that a process of each participant needed; ``server`` is the rest."""
    found: dict[str, int] = {}
    for number, peak in seen.peaks.items():
        command = seen.commands.get(number, [])
        # A simulator's client has its name as an argument, a provisioned one in the path of its kit.
        words = {word for part in command for word in part.split("/")}
        names = [site for site in sites if site in words]
        name = names[0] if len(names) == 1 else "server"
        found[name] = max(found.get(name, 0), peak)
    return found


def report(plan: RunPlan, found: Mapping[str, Sequence[Measured]]) -> Result:
    """Return tables of times and of memory, and the ratios beside their limits."""
    times = {
        carrier: {name: median(getattr(run.timing, name) for run in runs) for name in _TIMES}
        for carrier, runs in found.items()
    }
    speed = {carrier: median(run.images_per_s for run in runs) for carrier, runs in found.items()}
    rows = [
        [carrier, *(f"{times[carrier][name]:.1f}" for name in _TIMES), f"{speed[carrier]:.1f}"]
        for carrier in found
    ]
    tables = {
        "seconds": Table(["", *_TIMES.values(), "images/s"], rows),
        "peak memory of each process, MB": _memory(found),
    }
    figures = {carrier: [asdict(run) for run in runs] for carrier, runs in found.items()}
    settings = asdict(plan) | {"job": plan.job.name}
    return Result("run", settings, figures, tables, _checks(times))


_TIMES = {
    "whole": "whole",
    "first_step": "to the first step",
    "steady": "first round's end to results",
    "rounds": "rounds but the first",
    "ending": "results to end",
    "tasks": "in tasks",
}


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


def _memory(found: Mapping[str, Sequence[Measured]]) -> Table:
    names = list(dict.fromkeys(name for runs in found.values() for run in runs for name in run.peaks))
    rows = []
    for carrier, runs in found.items():
        peaks = [median(run.peaks.get(name, 0) for run in runs) / _MEGA for name in names]
        rows.append([carrier, *(f"{peak:.0f}" if peak else "–" for peak in peaks)])
    return Table(["", *names], rows)
