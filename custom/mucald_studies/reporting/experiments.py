"""Experiments: a job, a seed, a folder; prepared, run in a process of its own, and resumed where it stopped.

``<out>/<job>/seed-<n>/`` holds ``results.json``, which is written last and says that the run is finished, the
job folder exactly as it was run, ``log.txt``, and ``workspace`` with models and events.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mucald.config.job import JobConfig
from mucald.errors import CheckpointError, ReportError, TrainingError
from mucald.home import HOME_VARIABLE
from mucald.methods import family_of
from mucald.methods.jobs import load_job
from mucald.state.checkpoint import CheckpointStore, load_checkpoint
from mucald.state.files import write_atomically
from mucald_studies.jobs import RESULTS, changed, command, write_job
from mucald_studies.reporting.runs import RESULTS_FILE, Run, decisive, read_run

REPLACED = ".replaced"
_PROGRESS = re.compile(r"(round\s+\d+/\d+|test)\s+\S+ .*\| .* passed.*$")
_LEFT_OUT = re.compile(r"is left out of round \d+: ")
_PORT_TAKEN = "Address already in use"
_STARTS = 3

Progress = Callable[[str], None]
"""Takes a run's own lines on its progress."""


@dataclass(frozen=True)
class Experiment:
    """One run to be made.

    Args:
        job: the job folder that it starts from.
        config: the job's configuration with this run's seed and changes.
        sites: names of those that take part.
        folder: where everything of this run goes.
        home: folder of the sites' own folders, or None for phantoms.
    """

    job: Path
    config: JobConfig
    sites: Sequence[str]
    folder: Path
    home: Path | None

    @property
    def title(self) -> str:
        """Job and seed in words."""
        return f"{self.config.name}, seed {self.config.seed}"

    @property
    def pooled_at(self) -> str | None:
        """Name of the one participant that holds the data of all sites, if the job has one."""
        family = family_of(self.config.method)
        (first, *others) = family.participants(self.config)
        return None if others or family.members(self.config, first) == (first,) else first

    @property
    def data_sites(self) -> list[str]:
        """Names of the sites whose images the job trains and tests on."""
        return list(self.sites) if self.pooled_at is None else list(self.config.sites)

    def finished(self) -> Run | None:
        """Return the run if it was made in this configuration with this seed and no site was left out."""
        path = self.folder / RESULTS_FILE
        if not path.exists():
            return None
        try:
            run = read_run(path)
        except ReportError:
            return None
        wanted = decisive(self.config.to_dict())
        whole = not run.failures and set(run.sites) == set(self.data_sites)
        return run if whole and decisive(run.content["config"]) == wanted else None

    def stopped(self) -> str | None:
        """Return the name of the latest run of this configuration that completed a round and was stopped."""
        digest = self.config.digest()
        for folder in sorted(self.folder.glob("home/server/runs/*"), reverse=True):
            store = CheckpointStore(folder)
            try:
                rounds = store.rounds("server")
                if rounds and load_checkpoint(store.path(rounds[-1], "server"))[1]["digest"] == digest:
                    return folder.name
            except CheckpointError:
                # Nothing can go on from a damaged checkpoint.
                continue
        return None


def plan_job(
    job: Path, seeds: Sequence[int], changes: Mapping[str, Any], out: Path, home: Path | None
) -> list[Experiment]:
    """Return one experiment per seed of a job.

    Args:
        job: the job folder.
        seeds: seeds to run it with.
        changes: values of ``mucald.json`` by dotted key.
        out: the folder of all experiments.
        home: folder of the sites' own folders, or None for phantoms.

    Raises:
        ConfigError: the job does not exist or is wrong, or a key of ``changes`` does not exist.
    """
    config, sites = changed(job, changes), load_job(job)[1]
    return [
        Experiment(job, replace(config, seed=seed), sites, out / config.name / f"seed-{seed}", home)
        for seed in dict.fromkeys(seeds)
    ]


def run_experiment(experiment: Experiment, simulator: bool, threads: int | None, progress: Progress) -> Run:
    """Make a run, or finish one that was stopped; what an older configuration left is set aside.

    Args:
        experiment: what to run.
        simulator: in NVFLARE's simulator rather than in one process.
        threads: sites that run at once; by default all in the simulator, in one process as many as cores.
        progress: is told how far it is.

    Raises:
        TrainingError: the run failed, or a site was left out; the message gives the reason and the log.
    """
    folder, log = experiment.folder, experiment.folder / "log.txt"
    if (folder / RESULTS_FILE).exists():
        _set_aside(folder)
    home = _prepare_home(experiment)
    content = experiment.config.to_dict() | {"resume_from": experiment.stopped()}
    job = write_job(experiment.job, folder / "job", content)
    threads = threads or (len(experiment.sites) if simulator else os.cpu_count() or 1)
    start = command(job, folder / "workspace", threads, simulator)
    said_before = log.stat().st_size if log.exists() else 0
    status = _execute_until_ports_are_free(start, log, {HOME_VARIABLE: str(home)}, progress)
    source = folder / "workspace" / RESULTS[simulator]
    if status != 0 or not source.exists():
        reason = _reason(log.read_bytes()[said_before:].decode(errors="replace"))
        raise TrainingError(f"{experiment.title} failed: {reason} (all in {log})")
    run = read_run(source)
    for checkpoints in home.glob(f"*/runs/{run.content['run_id']}"):
        shutil.rmtree(checkpoints, ignore_errors=True)
    write_atomically(folder / RESULTS_FILE, source.read_bytes())
    if run.failures:
        raise TrainingError(f"{experiment.title} is not whole: {run.failures[0]} (all in {log})")
    return Run(folder / RESULTS_FILE, run.content)


def _set_aside(folder: Path) -> None:
    """Move a run's folder to where neither experiments nor reports look."""
    place = folder.parents[1] / REPLACED / folder.parent.name
    place.mkdir(parents=True, exist_ok=True)
    number = sum(path.name.startswith(f"{folder.name}-") for path in place.iterdir()) + 1
    folder.rename(place / f"{folder.name}-{number}")


def _prepare_home(experiment: Experiment) -> Path:
    """Return the participants' folders: the server's within the run's, the sites' own where there are any."""
    home = experiment.folder / "home"
    holder = home / (experiment.pooled_at or "")
    holder.mkdir(parents=True, exist_ok=True)
    if experiment.home is not None:
        for site in experiment.data_sites:
            (holder / site).unlink(missing_ok=True)
            # A site keeps prepared images and its noise secret in its own folder, for all runs alike.
            (holder / site).symlink_to((experiment.home / site).resolve(), target_is_directory=True)
    return home.resolve()


class _PortTakenError(Exception):
    """Another process was given a port that FLARE's simulator had chosen."""


def _execute_until_ports_are_free(
    command: list[str], log: Path, environment: Mapping[str, str], progress: Progress
) -> int:
    """Run a command as :func:`_execute` does, anew where the simulator lost a port.

    The simulator looks for free ports and listens on them seconds later. Where another process was faster it
    does not end, but waits for a participant that nobody can reach.
    """
    for _ in range(_STARTS):
        try:
            return _execute(command, log, environment, progress)
        except _PortTakenError:
            progress("another process took a port of the simulator; starting again")
    raise TrainingError(f"other processes took the simulator's ports {_STARTS} times (all in {log})")


def _execute(command: list[str], log: Path, environment: Mapping[str, str], progress: Progress) -> int:
    """Run a command, its output into ``log``; return its exit status."""
    with (
        log.open("a", encoding="utf-8") as stream,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                stream.write(line)
                stream.flush()
                if _PORT_TAKEN in line:
                    raise _PortTakenError
                if match := _PROGRESS.search(line.rstrip()):
                    progress(match[0])
        except BaseException:
            # The simulator starts processes of its own; all of them end with this one.
            os.killpg(process.pid, signal.SIGTERM)
            raise
    return process.returncode


def _reason(log: str) -> str:
    """Return the line of a log that most likely says what went wrong, after those on sites left out."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(ERROR|CRITICAL)\b|Error\b|system_panic", line)]
    left_out = [line for line in lines if _LEFT_OUT.search(line)]
    return "; ".join(dict.fromkeys([*left_out, (errors or lines or ["no output"])[-1]]))
