"""The server's side of a run from first round to results, whatever carries the messages."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from mucald.config.job import JobConfig
from mucald.errors import CheckpointError, TrainingError
from mucald.federation.admission import check_sites, warn_of_exposure
from mucald.federation.attendance import Attendance
from mucald.federation.progress import Progress
from mucald.federation.report import check_report, reports_by_site
from mucald.federation.runs import difference, new_run, run_to_resume
from mucald.federation.task import SiteTask
from mucald.methods.split.algorithms import Memory, algorithm_of
from mucald.methods.split.server.aggregator import Aggregator
from mucald.methods.split.server.candidates import Choice
from mucald.methods.split.server.discriminators import Discriminators
from mucald.methods.split.server.endpoint import SplitServer
from mucald.methods.split.server.in_turn.turns import turns_of
from mucald.methods.split.server.round_record import RoundRecord
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.results.history import History
from mucald.results.results import build_results
from mucald.results.table import results_table
from mucald.results.tensorboard import ScalarWriter
from mucald.state.checkpoint import (
    CheckpointStore,
    load_checkpoint,
    save_checkpoint,
    with_prefix,
    without_prefix,
)
from mucald.state.files import write_atomically
from mucald.wire.recorder import open_recorder

log = logging.getLogger(__name__)

KEPT_ROUNDS = 2


class Coordinator:
    """Runs the schedule: hands out tasks, takes reports, ends rounds, writes checkpoints and results.

    Args:
        config: the job.
        sites: the sites that take part.
        home: the server's own folder; runs lie in ``home/runs``.
        run_folder: where results, models and TensorBoard events go.
        device: where to compute.
        clock: by which a site's silence is measured, in seconds.

    Raises:
        ConfigError: a site has no task, fewer sites than ``min_sites``, or tasks that cannot share a network.
        CheckpointError: ``resume_from`` names no complete run of this configuration.
    """

    def __init__(
        self,
        config: JobConfig,
        sites: list[str],
        home: Path,
        run_folder: Path,
        device: torch.device,
        clock: Callable[[], float] = time.monotonic,
    ):
        algorithm, memory = algorithm_of(config), Memory()
        check_sites(config, sites, algorithm)
        self._config, self._sites, self._run_folder = config, sites, run_folder
        # The sites whose data lie in one place; there the server holds no network.
        self._pooled = tuple(config.sites) if algorithm.pooled_at is not None else ()
        self._aggregator = Aggregator(config, algorithm, memory)
        self.run_id = run_to_resume(config, home / "runs") or new_run(config)
        self._store = CheckpointStore(home / "runs" / self.run_id)
        self._turns = turns_of(config, sites, algorithm)
        self.copies: dict[str, SiteCopy] = {}
        if not self._pooled:
            keeps_start = self._aggregator.needs_start
            self.copies = self._turns.make_copies(device, algorithm, memory, self._store, keeps_start)
        self._aggregator.check(list(self.copies.values()))
        self._discriminators = Discriminators(config, device)
        self._history, self._completed = History(), 0
        # Reports of different sites may come at once.
        self._lock = threading.Lock()
        # Who holds the data of all sites sends no messages, so nothing tells that it is still at work.
        timeout_s = 0 if self._pooled else config.runtime.stall_timeout_s
        self._attendance = Attendance(timeout_s, clock, self._turns.grace_s)
        modules, recorder = self._discriminators.modules, open_recorder(config, self.run_id, run_folder)
        self.server = SplitServer(config, self.copies, modules, recorder, self._attendance)
        if config.resume_from is not None:
            self._resume(device)
        self._session_start = time.monotonic() - self._history.wall_s
        self._progress = Progress(config.training.rounds, len(self._pooled or sites), self._completed)
        self._writer = ScalarWriter(run_folder / "tb_events", config, self._history)
        if self._completed == 0:
            self._save()
        log.info("run %s; to go on with it after a stop, set resume_from to %r", self.run_id, self.run_id)
        warn_of_exposure(config, sites, algorithm)

    @property
    def participants(self) -> list[str]:
        """Names of those that do the tasks."""
        return list(self._sites)

    @property
    def awaited(self) -> list[str]:
        """Names of those that may do the open task, and have neither reported on it nor been left out."""
        return self._attendance.awaited

    def _members(self, participant: str) -> tuple[str, ...]:
        """Return the sites that a participant answers for."""
        return self._pooled or (participant,)

    def tasks(self) -> Iterator[SiteTask]:
        """Yield what is left to do, in order; each task must be closed before the next is asked for."""
        for number in range(self._completed, self._config.training.rounds):
            yield self._task("train", number)
        yield self._task("test", self._config.training.rounds)

    def _task(self, kind: Literal["train", "test"], round_number: int) -> SiteTask:
        counted = {name: self._history.last_counted(self._members(name)) for name in self._sites}
        newcomers = tuple(name for name, completed in counted.items() if not completed)
        behind = {name: completed for name, completed in counted.items() if 0 < completed < round_number}
        return SiteTask(kind, round_number, self.run_id, newcomers, behind)

    def open(self, task: SiteTask) -> None:
        """Begin a task: accept the sites' messages, as far as :meth:`turns` lets them."""
        self._round: dict[str, Any] = {"round": task.round, "sites": {}}
        self._turns.open(task.round, self.server, self._attendance)

    def turns(self) -> Iterator[list[str]]:
        """Yield who may do the open task at once; all answer or fail before the next are asked for."""
        return self._turns.turns(self._round["round"], self.server, self._attendance)

    def begin(self, site: str) -> None:
        """Note that a site has taken the open task."""
        self._attendance.step(site)

    def receive(self, site: str, report: Any) -> None:
        """Take a participant's report of the open task; one that has been left out of it comes too late.

        Raises:
            WireError: it is not a report of this site and round.
        """
        self.server.close(site)
        reports = reports_by_site(report, site, self._pooled) if self._pooled else {site: report}
        for name, part in reports.items():
            check_report(part, name, self._round["round"])
        with self._lock:
            if not self._attendance.answer(site):
                log.warning("the report of site '%s' comes too late and is ignored", site)
                return
            for name, part in reports.items():
                self._add(name, part, self.copies[site].record if site in self.copies else RoundRecord())

    def _add(self, site: str, report: dict[str, Any], record: RoundRecord) -> None:
        """Add a site's report and the server's notes of the same task to round and history."""
        self._history.add_report(report, record.seconds, self._config.training.local_epochs)
        self._history.note_first_step(record.first_step, self._session_start)
        if record.choice is not None:
            self._history.add_choice(site, self._round["round"], record.choice)
        self._round["sites"][site] = {
            "losses": report.get("losses", {}) | record.losses.means(),
            "gradients": report.get("gradients", {}) | record.gradients.means(),
            "proxy_mse": record.proxy_error.mean(self._config.release.proxy_noise_std**2),
        }
        if "pretraining" in report:
            self._round["sites"][site]["pretraining"] = report["pretraining"]
        log.info(self._progress.line(report))

    def fail(self, site: str, reason: str) -> None:
        """Leave a site out of the open task: its copy goes back to where the round began.

        One that has reported, or has been left out before, stays as it is.
        """
        round_number = self._round["round"]
        with self._lock:
            if not self._attendance.answer(site):
                return
            self._history.failures.append({"site": site, "round": round_number, "reason": reason})
            self._progress.skip()
        log.error("site '%s' is left out of round %d: %s", site, round_number + 1, reason)
        trained = round_number < self._config.training.rounds
        self.server.close(site, partial(self._rewind, site) if trained else None)

    def leave_out_silent(self) -> list[str]:
        """Leave the sites out of the open task that have not stepped for too long; return their names."""
        overdue = self._attendance.overdue()
        for site, reason in overdue.items():
            self.fail(site, reason)
        return list(overdue)

    def restart(self, site: str) -> None:
        """Let a site whose process was started again do the open task from its beginning."""
        self._attendance.step(site)
        if site not in self.awaited:
            return
        log.warning("site '%s' was started again and does its task anew", site)
        if site in self.copies:
            self.server.restart(site, partial(self._rewind, site))

    def _rewind(self, site: str) -> None:
        """Take a site's copy, if it has one, back to where the open task began."""
        if site in self.copies:
            self.copies[site].load_state(*load_checkpoint(self._store.path(self._round["round"], site)))

    def close(self, task: SiteTask) -> None:
        """End the task: between rounds, train discriminators, aggregate and write the checkpoint.

        Raises:
            TrainingError: fewer than ``min_sites`` sites did the task.
        """
        # In the job's order, whoever came first.
        done = [name for name in self._sites if self._round["sites"].keys() >= set(self._members(name))]
        self._round["sites"] = {
            site: self._round["sites"][site] for name in done for site in self._members(name)
        }
        if len(done) < self._config.min_sites:
            reasons = [
                f"{f['site']}: {f['reason']}" for f in self._history.failures if f["round"] == task.round
            ]
            raise TrainingError(
                f"{len(done)} sites finished round {task.round + 1}, but min_sites is "
                f"{self._config.min_sites}; the run stops after {self._completed} complete rounds "
                f"({'; '.join(reasons)})"
            )
        if task.kind == "test":
            return
        contributors = [self.copies[site] for site in done if site in self.copies]
        self._round["discriminators"] = self._discriminators.train(contributors, task.round)
        if contributors:
            contributions = {
                site: (self._history.reports[site]["n_train"], self._last_validation_loss(site))
                for site in done
            }
            self._aggregator.end_round(list(self.copies.values()), contributions)
        self._history.rounds.append(self._round)
        self._completed = task.round + 1
        self._history.end_round(time.monotonic() - self._session_start)
        self._save()
        self._writer.write_round(self._round)

    def _last_validation_loss(self, site: str) -> float | None:
        validation = self._history.validation.get(site)
        return validation[-1]["loss"] if validation else None

    def finish(self) -> dict[str, Any]:
        """Write results, models and events; return the results."""
        self._history.wall_s = time.monotonic() - self._session_start
        results = build_results(self._config, self.run_id, self._history)
        data = json.dumps(results, indent=2).encode()
        write_atomically(self._run_folder / "results.json", data)
        for site, copy in self.copies.items():
            state = {"site": site, "task": copy.task.name, "config": self._config.to_dict()}
            save_checkpoint(self._run_folder / "models" / f"{site}.safetensors", copy.weights(), state)
            copy.discard()
        self._writer.close(results)
        self._store.clear_aside()
        log.info("test results, each site with its best round:\n%s", results_table(results))
        log.info("results: %s", self._run_folder / "results.json")
        return results

    def _save(self) -> None:
        for site, copy in self.copies.items():
            save_checkpoint(self._store.path(self._completed, site), *copy.state())
        state = {
            "config": self._config.to_dict(),
            "digest": self._config.digest(),
            "sites": self._sites,
            "history": self._history.to_dict(),
        }
        # Written last, so that its presence says that the round is complete.
        tensors = with_prefix("discriminators", self._discriminators.state())
        tensors |= with_prefix("aggregator", self._aggregator.state()) | self._turns.state()
        save_checkpoint(self._store.path(self._completed, "server"), tensors, state)
        self._store.prune(self._store.rounds("server")[-KEPT_ROUNDS:])

    def _resume(self, device: torch.device) -> None:
        rounds = self._store.rounds("server")
        if not rounds:
            raise CheckpointError(f"resume_from: {self._store.folder} holds no complete round")
        self._completed = rounds[-1]
        tensors, state = load_checkpoint(self._store.path(self._completed, "server"))
        if state["digest"] != self._config.digest():
            changed = difference(state["config"], self._config.to_dict())
            raise CheckpointError(f"resume_from: run {self.run_id} had another configuration: {changed}")
        if sorted(state["sites"]) != sorted(self._sites):
            raise CheckpointError(f"resume_from: run {self.run_id} had the sites {', '.join(state['sites'])}")
        self._discriminators.load_state(without_prefix("discriminators", tensors))
        self._aggregator.load_state(without_prefix("aggregator", tensors), device)
        self._turns.load_state(tensors)
        self._history = History(**state["history"])
        for site, copy in self.copies.items():
            copy.load_state(*load_checkpoint(self._store.path(self._completed, site)))
        Choice.share_equal(copy.choice for copy in self.copies.values())
        log.info("going on with run %s after %d complete rounds", self.run_id, self._completed)
