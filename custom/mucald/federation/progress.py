"""One console line per site and round, with the time passed and an estimate of the time left."""

import time
from typing import Any

from mucald.console import clock
from mucald.metrics.names import names_of

LOGGER = "mucald.progress"
"""Logs what a person who follows the run reads, and nothing else; by this name others find it in a log."""


class Progress:
    """Counts the sites' tasks of a run.

    Args:
        rounds: rounds of the run; a test follows them.
        tasks: that sites have to do in this session.
    """

    def __init__(self, rounds: int, tasks: int):
        self._rounds, self._left = rounds, tasks
        self._done = 0
        self._start = time.monotonic()

    def skip(self) -> None:
        """Count a task that failed."""
        self._done += 1
        self._left -= 1

    def line(self, report: dict[str, Any]) -> str:
        """Count a task that is done and describe it."""
        self.skip()
        elapsed, names = time.monotonic() - self._start, names_of(report["task"])
        title = names.primary.replace("_", " ").capitalize()
        if "test" in report:
            score = _number(report["test"][names.primary])
            what = f"test      {report['site']:<12} {'':<11} test {title} {score}"
        else:
            number, score = (
                f"round {report['round'] + 1}/{self._rounds}",
                "" if report["round"] else "first round",
            )
            if validation := report.get("validation"):
                score = f"validation {title} {_number(validation[names.primary])}"
            what = f"{number:<9} {report['site']:<12} {_loss(report['losses'], names.loss)}  {score}"
        left = elapsed / self._done * self._left
        return f"{what:<58} | {clock(elapsed)} passed, about {clock(left)} left"


def _loss(losses: dict[str, float], wanted: str) -> str:
    """Return the loss that a task is known by, or else the first that there is."""
    value = losses.get(wanted, next(iter(losses.values()), None))
    return "" if value is None else f"loss {value:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
