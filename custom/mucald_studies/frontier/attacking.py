"""Attacks the recorded runs of all points, keeps what is done, and tells how far it is."""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mucald.config.schema import read_json
from mucald.errors import ConfigError, MucaldError
from mucald.federation.progress import clock
from mucald_studies.attacks.harness.base import Attack
from mucald_studies.attacks.harness.evaluation import Evaluation
from mucald_studies.attacks.harness.fitting import Budget
from mucald_studies.attacks.harness.result import AttackResult, read_results, write_results
from mucald_studies.frontier.points import Point
from mucald_studies.recording import Recording, read_recording
from mucald_studies.reporting.runner import TimeLeft

RESULTS = "attacks.json"
_SETTINGS = "settings.json"

Job = tuple[str, str]
"""Names of an attack and of the site that it is made on."""


@dataclass
class Attacked:
    """What came of the attacks on one run.

    Args:
        results: by attack and site.
        left_out: why an attack on a site could not be made.
    """

    results: dict[Job, AttackResult] = field(default_factory=dict)
    left_out: dict[Job, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attackers:
    """Who attacks every run.

    Args:
        attacks: which attacks.
        sites: on whom; on all if there are none.
        budget: what each may spend.
        auxiliary: folder with, for any site, a folder whose ``site.json`` names images for the attacker.
        threads: of torch; those of the run if None. Another number changes the last bits of a site's latents.
    """

    attacks: Sequence[Attack]
    sites: Sequence[str]
    budget: Budget
    auxiliary: Path | None = None
    threads: int | None = None


def attack_all(points: Sequence[Point], attackers: Attackers) -> dict[str, Attacked]:
    """Make all attacks on the runs of ``points`` that are not made yet, with a line on the console for each.

    Returns:
        what came of them by name of the point. A point whose recording cannot be read has none; the console
        has the reason.
    """
    campaigns = {}
    for point in points:
        try:
            campaigns[point.name] = _Campaign(point, attackers)
        except MucaldError as error:
            print(f"error: point '{point.name}': {error}", file=sys.stderr, flush=True)
    left = TimeLeft()
    for campaign in campaigns.values():
        for result in campaign.done.results.values():
            left.add(result.attack, result.seconds)
    total = sum(len(campaign.todo) + len(campaign.done.results) for campaign in campaigns.values())
    remaining = [job for campaign in campaigns.values() for job in campaign.todo]
    print(f"attacks: {total}, made before: {total - len(remaining)}", flush=True)
    for name, campaign in campaigns.items():
        while campaign.todo:
            place = f"[{total - len(remaining) + 1}/{total}] {name}: {' on '.join(campaign.todo[0])}"
            remaining.pop(0)
            seconds, reason = campaign.next()
            left.add(campaign.last, seconds)
            rest = left.of(attack for attack, _ in remaining)
            told = f"left out: {reason}" if reason else f"{clock(seconds)}"
            print(f"{place}: {told}, about {clock(rest or 0)} left", flush=True)
    return {name: campaign.done for name, campaign in campaigns.items()}


class _Campaign:
    """All attacks on one run; what was made with the same budget before counts."""

    def __init__(self, point: Point, attackers: Attackers):
        self._folder, self._attackers = point.attacks_folder, attackers
        recording = read_recording(point.experiment.folder / "workspace")
        self._threads = attackers.threads or recording.config.runtime.threads
        self._evaluation = _evaluation(recording, point.experiment.folder / "home", attackers.auxiliary)
        pairs = self._evaluation.jobs(attackers.attacks, attackers.sites or recording.sites)
        self._attacks = {attack.name: attack for attack in attackers.attacks}
        wanted = [(attack.name, site) for attack, site in pairs]
        settings = {"run_id": recording.run_id, "budget": dataclasses.asdict(attackers.budget)}
        self._made = self._made_before(settings)
        self.done = Attacked({job: result for job, result in self._made.items() if job in wanted})
        self.todo = [job for job in wanted if job not in self._made]
        self.last = ""

    def _made_before(self, settings: Mapping[str, object]) -> dict[Job, AttackResult]:
        """Return what the same attackers made of the same run; forget what others made."""
        path = self._folder / _SETTINGS
        try:
            known = path.exists() and read_json(path) == settings
        except ConfigError:
            known = False
        if known and (self._folder / RESULTS).exists():
            return {(result.attack, result.site): result for result in read_results(self._folder / RESULTS)}
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / RESULTS).unlink(missing_ok=True)
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        return {}

    def next(self) -> tuple[float, str]:
        """Make the next attack; return how many seconds it took, and why it could not be made, if so."""
        self.last, site = job = self.todo.pop(0)
        torch.set_num_threads(self._threads)
        start = time.monotonic()
        try:
            result = self._evaluation.attack(self._attacks[self.last], site, self._attackers.budget).result
        except MucaldError as error:
            self.done.left_out[job] = str(error)
            return time.monotonic() - start, str(error)
        self.done.results[job] = self._made[job] = result
        # After every attack, so that a stop loses only the one under way.
        write_results(self._folder / RESULTS, list(self._made.values()))
        return time.monotonic() - start, ""


def _evaluation(recording: Recording, homes: Path, auxiliary: Path | None) -> Evaluation:
    known = {s: auxiliary / s for s in recording.sites if auxiliary and (auxiliary / s).exists()}
    return Evaluation(recording, {site: homes / site for site in recording.sites}, known)
