"""Attacks the recorded runs of all points, keeps what is done, and tells how far it is."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from mucald.config.schema import read_json
from mucald.console import clock
from mucald.errors import ConfigError, MucaldError
from mucald_studies.attacks.harness.base import Attack
from mucald_studies.attacks.harness.evaluation import Evaluation
from mucald_studies.attacks.harness.fitting import Budget
from mucald_studies.attacks.harness.result import AttackResult, read_results, write_results
from mucald_studies.frontier.points import Point
from mucald_studies.recording import read_recording
from mucald_studies.reporting.runner import TimeLeft

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
    todo = [(name, job) for name, campaign in campaigns.items() for job in campaign.todo]
    total = sum(len(campaign.wanted) for campaign in campaigns.values())
    print(f"attacks: {total}, made before: {total - len(todo)}", flush=True)
    left = TimeLeft()
    for result in (result for campaign in campaigns.values() for result in campaign.done.results.values()):
        left.add(result.attack, result.seconds)
    for number, (name, job) in enumerate(todo, 1):
        start = time.monotonic()
        reason = campaigns[name].attack(job)
        seconds = time.monotonic() - start
        left.add(job[0], seconds)
        rest = left.of(attack for _, (attack, _) in todo[number:])
        place = f"[{total - len(todo) + number}/{total}] {name}: {' on '.join(job)}"
        told = f"left out: {reason}" if reason else clock(seconds)
        print(f"{place}: {told}, about {clock(rest or 0)} left", flush=True)
    return {name: campaign.done for name, campaign in campaigns.items()}


class _Campaign:
    """All attacks on one run; what was made with the same budget before counts."""

    def __init__(self, point: Point, attackers: Attackers):
        folder, self._attackers = point.experiment.folder, attackers
        self._results = point.attacks_folder / "attacks.json"
        recording, extra = read_recording(folder / "workspace"), attackers.auxiliary
        self._threads = attackers.threads or recording.config.runtime.threads
        homes = {site: folder / "home" / site for site in recording.sites}
        auxiliary = {site: extra / site for site in recording.sites if extra and (extra / site).exists()}
        self._evaluation = Evaluation(recording, homes, auxiliary)
        pairs = self._evaluation.jobs(attackers.attacks, attackers.sites or recording.sites)
        self.wanted: dict[Job, Attack] = {(attack.name, site): attack for attack, site in pairs}
        self._made = self._made_before({"run_id": recording.run_id, "budget": asdict(attackers.budget)})
        self.done = Attacked({job: result for job, result in self._made.items() if job in self.wanted})
        self.todo = [job for job in self.wanted if job not in self._made]

    def _made_before(self, settings: dict[str, object]) -> dict[Job, AttackResult]:
        """Return what the same attackers made of the same run; forget what others made."""
        path = self._results.with_name("settings.json")
        try:
            known = path.exists() and read_json(path) == settings
        except ConfigError:
            known = False
        if known and self._results.exists():
            return {(result.attack, result.site): result for result in read_results(self._results)}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._results.unlink(missing_ok=True)
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        return {}

    def attack(self, job: Job) -> str:
        """Make an attack; return why it could not be made, if so."""
        torch.set_num_threads(self._threads)
        try:
            attacked = self._evaluation.attack(self.wanted[job], job[1], self._attackers.budget)
        except MucaldError as error:
            self.done.left_out[job] = str(error)
            return str(error)
        self.done.results[job] = self._made[job] = attacked.result
        # After every attack, so that a stop loses only the one under way.
        write_results(self._results, list(self._made.values()))
        return ""
