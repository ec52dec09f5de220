"""One console line per site and round, with the time passed and an estimate of the time left."""

import time
from typing import Any

from mucald.console import clock
from mucald.metrics.names import names_of

LOGGER = "mucald.progress"
"""Logs what a person who follows the run reads, and nothing else; by this name others find it in a log."""


class Progress:
    """Tells what sites have done, and how long the rounds that are left may take.

    Args:
        rounds: rounds of the run; a test follows them.
    """

    def __init__(self, rounds: int):
        self._rounds = rounds
        self._start = time.monotonic()
        self._ends: list[float] = []

    def end_round(self) -> None:
        """Note that a round is over.

        The first of a session counts for no estimate: it holds what comes before all rounds, such as
        pre-training.
        """
        self._ends.append(time.monotonic())

    def line(self, report: dict[str, Any]) -> str:
        """Describe a task that is done."""
        names, times = names_of(report["task"]), f"{clock(time.monotonic() - self._start)} passed"
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
            times += self._left(report["round"])
        return f"{what:<58} | {times}"

    def _left(self, completed: int) -> str:
        """Return about how long it takes until all rounds are over, once a round has told."""
        if len(self._ends) < 2:
            return ""
        a_round = (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)
        left = a_round * (self._rounds - completed) - (time.monotonic() - self._ends[-1])
        return f", about {clock(max(0.0, left))} to the test"


def _loss(losses: dict[str, float], wanted: str) -> str:
    """Return the loss that a task is known by, or else the first that there is."""
    value = losses.get(wanted, next(iter(losses.values()), None))
    return "" if value is None else f"loss {value:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
