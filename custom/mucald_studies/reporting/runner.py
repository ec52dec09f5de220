"""Runs experiments one after the other, tells how far it is, and goes on when one fails."""

import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from mucald.console import clock
from mucald.errors import MucaldError, explained
from mucald_studies.reporting.experiments import Experiment, run_experiment


class TimeLeft:
    """Estimates how long runs will take from how long others of their job took, or of any job."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def add(self, job: str, seconds: float) -> None:
        """Note how long a run of ``job`` took."""
        self._seconds[job].append(seconds)

    def of(self, jobs: Iterable[str]) -> float | None:
        """Return the seconds that one run of each of ``jobs`` takes together; None if nothing is known."""
        if not self._seconds:
            return None
        overall = np.mean([seconds for of_job in self._seconds.values() for seconds in of_job])
        return float(sum(np.mean(self._seconds[job]) if job in self._seconds else overall for job in jobs))


def run_all(experiments: Sequence[Experiment], simulator: bool, threads: int | None) -> int:
    """Make all runs that are not finished, with a line on the console for each; return how many failed.

    Arguments are those of :func:`.run_experiment`.
    """
    finished = [experiment.finished() for experiment in experiments]
    left = TimeLeft()
    for run in filter(None, finished):
        left.add(run.job, run.content["timing"]["wall_s"])
    todo = [experiment for experiment, run in zip(experiments, finished, strict=True) if run is None]
    done = len(experiments) - len(todo)
    print(f"runs: {len(experiments)}, finished before: {done}", flush=True)
    failed = 0
    for index, experiment in enumerate(todo):
        place = f"[{done + index + 1}/{len(experiments)}] {experiment.title}"
        print(f"{place} …", flush=True)
        start = time.monotonic()
        try:
            run = run_experiment(experiment, simulator, threads, _show)
        except (MucaldError, OSError) as error:
            failed += 1
            _clear()
            print(f"error: {explained(error)}", file=sys.stderr, flush=True)
            continue
        seconds, score = time.monotonic() - start, run.score()
        left.add(experiment.config.name, seconds)
        rest = left.of(other.config.name for other in todo[index + 1 :])
        _clear()
        told = "no score" if score is None else f"mean test score {score:.3f}"
        print(f"{place}: {told} in {clock(seconds)}, about {clock(rest or 0)} left", flush=True)
    return failed


def _show(line: str) -> None:
    """Show a run's own progress where someone is looking, each line in place of the last."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K    {line}", end="", flush=True)


def _clear() -> None:
    if sys.stdout.isatty():
        print("\r\x1b[K", end="")
