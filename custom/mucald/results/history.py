"""The record of a run: what happened in every round."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

DATA = ("task", "source", "n_train", "n_validation", "n_test")
_PER_TASK = {"site", "round", "validation", "wire", "seconds"}
ADDED = "added"
"""Key of the first round: the sites that an earlier run, which this one begins with, had not."""
SECONDS = ("task", "requests", "hidden", "server")


@dataclass
class History:
    """Everything that has been reported so far, as plain JSON, so that a checkpoint can hold it.

    Args:
        rounds: one entry per round: losses and gradient norms per site, and numbers of the method's own.
        validation: by site, one entry per validated round.
        aggregation: by site, what its validation chose of the states offered to it, one entry per choice.
        reports: by site, what it said of its data and its test.
        wire: bytes up, down and in training, by site.
        seconds: time of each site's tasks, of its requests, of those in which the site worked on, and of the
            server on its behalf.
        images: training images that went through, by site.
        failures: every failure: site, round, reason.
        wall_s: time since the run began, over all its sessions.
        first_step_s: the same up to the first training step that reached the server, if one did.
        round_ends_s: the same up to the end of each round.
    """

    rounds: list[dict[str, Any]] = field(default_factory=list)
    validation: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    aggregation: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    wire: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    wall_s: float = 0.0
    first_step_s: float | None = None
    round_ends_s: list[float] = field(default_factory=list)

    def add_report(self, report: dict[str, Any], server_seconds: float, epochs: int) -> None:
        """Add a site's report of one task to the totals."""
        site, trained = report["site"], "losses" in report
        kept = DATA if trained else report.keys() - _PER_TASK
        self.reports.setdefault(site, {}).update({key: report[key] for key in kept})
        if "validation" in report:
            self.validation.setdefault(site, []).append(report["validation"])
        wire = self.wire.setdefault(site, {"up": 0, "down": 0, "training": 0})
        for key in wire:
            wire[key] += report["wire"][key]
        seconds = self.seconds.setdefault(site, dict.fromkeys(SECONDS, 0.0))
        seconds["task"] += report["seconds"]
        seconds["requests"] += report["wire"]["seconds"]
        seconds["hidden"] += report["wire"]["hidden"]
        seconds["server"] += server_seconds
        if trained:
            self.images[site] = self.images.get(site, 0) + epochs * report["n_train"]

    def forget_round(self, sites: Iterable[str], completed: int) -> None:
        """Drop what sites validated after ``completed`` rounds: their next round does not count, so they
        forget it too, and may go on with another best round."""
        for site in sites:
            entries = self.validation.get(site, [])
            self.validation[site] = [entry for entry in entries if entry["round"] != completed - 1]

    def note_first_step(self, moment: float | None, start: float) -> None:
        """Note when a site's first training step came; ``start`` is when the run began, on the same clock."""
        if moment is not None:
            self.first_step_s = min(moment - start, self.first_step_s or moment - start)

    def end_round(self, wall_s: float) -> None:
        """Note that a round ends, ``wall_s`` after the run began."""
        self.wall_s = wall_s
        self.round_ends_s.append(wall_s)

    def add_choice(self, site: str, completed: int, choice: dict[str, Any]) -> None:
        """Note what a site chose after ``completed`` rounds of what the last of them led to."""
        self.aggregation.setdefault(site, []).append({"round": completed - 1, **choice})

    def added(self) -> set[str]:
        """Return the sites that the earlier run had not which this one began with; none without one."""
        return {site for entry in self.rounds for site in entry.get(ADDED, ())}

    def last_counted(self, sites: Iterable[str]) -> int:
        """Return how many rounds were complete after the last one in which all ``sites`` counted."""
        counted = [entry["round"] for entry in self.rounds if entry["sites"].keys() >= set(sites)]
        return int(counted[-1]) + 1 if counted else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the history as JSON."""
        return asdict(self)
