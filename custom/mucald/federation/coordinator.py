"""The server's side of a run from first round to results, whatever the method and whatever carries it."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from mucald.config.job import JobConfig
from mucald.errors import CheckpointError, TrainingError
from mucald.federation.admission import check_participants
from mucald.federation.attendance import Attendance
from mucald.federation.method import Contributor, Family, Notes, Saved, ServerContext, State
from mucald.federation.progress import LOGGER, Progress
from mucald.federation.report import check_report, check_reports
from mucald.federation.runs import difference, new_run, run_to_resume
from mucald.federation.task import SiteTask
from mucald.privacy.disclosure import account
from mucald.results.history import History
from mucald.results.results import build_results
from mucald.results.table import cross_site_table, results_table
from mucald.results.tensorboard import ScalarWriter
from mucald.state.checkpoint import (
    CheckpointStore,
    load_checkpoint,
    save_checkpoint,
    with_prefix,
    without_prefix,
)
from mucald.state.files import write_atomically

log = logging.getLogger(__name__)
told = logging.getLogger(LOGGER)

KEPT_ROUNDS = 2
FORMAT = 3
"""Of a server's checkpoints; one of another format is refused."""

_METHOD = "method"


class Coordinator:
    """Runs the schedule: hands out tasks, takes reports, ends rounds, writes checkpoints and results.

    Args:
        family: the job's family of methods.
        config: the job.
        sites: names of those that take part.
        home: the server's own folder; runs lie in ``home/runs``.
        run_folder: where results, models and TensorBoard events go.
        device: where to compute.
        clock: by which a site's silence is measured, in seconds.

    Raises:
        ConfigError: a site has no task, fewer sites than ``min_sites``, or sites that the method cannot join.
        CheckpointError: ``resume_from`` names no complete run of this configuration.
    """

    def __init__(
        self,
        family: Family,
        config: JobConfig,
        sites: list[str],
        home: Path,
        run_folder: Path,
        device: torch.device,
        clock: Callable[[], float] = time.monotonic,
    ):
        check_participants(family, config, sites)
        self._family, self._config, self._sites, self._run_folder = family, config, sites, run_folder
        self.run_id = run_to_resume(config, home / "runs") or new_run(config)
        self._store = CheckpointStore(home / "runs" / self.run_id)
        self._history, self._completed = History(), 0
        self._reasons: set[tuple[str, str]] = set()
        """Why which site was left out, as far as this session's log tells."""
        # Reports of different sites may come at once.
        self._lock = threading.Lock()
        timeout_s = config.runtime.stall_timeout_s if family.takes_steps(config) else 0
        self._attendance = Attendance(timeout_s, clock)
        context = ServerContext(self.run_id, self._store, run_folder, device, self._attendance)
        self.method = family.server(config, sites, context)
        self._attendance.grace_s = self.method.schedule.grace_s
        if config.resume_from is not None:
            self._resume()
        self._session_start = time.monotonic() - self._history.wall_s
        self._progress = Progress(config.training.rounds)
        self._writer = ScalarWriter(run_folder / "tb_events", config, self._history)
        if self._completed == 0:
            self._save()
        told.info("run %s; to go on with it after a stop, set resume_from to %r", self.run_id, self.run_id)
        for warning in family.warnings(config):
            log.warning("%s", warning)

    @property
    def participants(self) -> list[str]:
        """Names of those that do the tasks."""
        return list(self._sites)

    @property
    def awaited(self) -> list[str]:
        """Names of those that may do the open task, and have neither reported on it nor been left out."""
        return self._attendance.awaited

    def _members(self, participant: str) -> tuple[str, ...]:
        return self._family.members(self._config, participant)

    def _taking_part(self, round_number: int) -> list[str]:
        """Return the sites that have joined when so many rounds are over."""
        return self._config.joined([m for name in self._sites for m in self._members(name)], round_number)

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
        """Begin a task, which sites do in :meth:`turns`."""
        self._round: dict[str, Any] = {"round": task.round, "sites": {}}
        self._attendance.begin([])
        self.method.begin_round(task.round)

    def turns(self) -> Iterator[list[str]]:
        """Yield who may do the open task at once; all answer or fail before the next are asked for."""
        number = self._round["round"]
        joined = set(self._taking_part(number))
        present = [name for name in self._sites if joined & set(self._members(name))]
        for sites in self.method.schedule.turns(number, present):
            self._attendance.begin(sites)
            self.method.begin_turn(number, sites)
            yield sites
            self.method.end_turn(sites)

    def begin(self, site: str) -> None:
        """Note that a site has taken the open task."""
        self._attendance.step(site)

    def payload(self, site: str, task: SiteTask) -> State:
        """Return the tensors that a task brings to a site."""
        return self.method.payload(site, task)

    def handle(self, site: str, request: bytes | bytearray | memoryview) -> bytes:
        """Answer one message of a site's step."""
        return self.method.handle(site, request)

    def receive(self, site: str, reports: Any, payload: State | None = None) -> None:
        """Take what a participant has done; one that has been left out of the task comes too late.

        Raises:
            WireError: it is not a report of this site and round, or not the tensors that the method expects.
        """
        reports = check_reports(reports, site, self._members(site))
        for name, report in reports.items():
            task = self._config.site(name).task
            check_report(
                report, name, self._round["round"], task, self.method.report_fields, self.method.loss
            )
        with self._lock:
            if site not in self._attendance.awaited:
                log.warning("the report of site '%s' comes too late and is ignored", site)
                return
            notes = self.method.receive(site, reports, payload or {})
            self._attendance.answer(site)
            for name, report in reports.items():
                self._add(name, report, notes)

    def _add(self, site: str, report: dict[str, Any], notes: Notes) -> None:
        """Add a site's report and the server's notes of the same task to round and history."""
        self._history.add_report(report, notes.seconds, self._config.training.local_epochs)
        self._history.note_first_step(notes.first_step, self._session_start)
        if notes.choice is not None:
            self._history.add_choice(site, self._round["round"], notes.choice)
        numbers = {name: report.get(name, {}) for name in ("losses", "gradients")}
        for name, values in notes.numbers.items():
            numbers[name] = numbers[name] | values if name in numbers else values
        for name, own in self.method.report_fields.items():
            if own.task == "train" and name in report:
                numbers[name] = report[name]
        self._round["sites"][site] = numbers
        told.info(self._progress.line(report))

    def fail(self, site: str, reason: str) -> None:
        """Leave a site out of the open task: the server's part of it goes back to where the round began.

        One that has reported, or has been left out before, stays as it is.
        """
        with self._lock:
            if not self._attendance.answer(site):
                return
        self._leave_out(site, reason)

    def _leave_out(self, site: str, reason: str) -> None:
        round_number = self._round["round"]
        with self._lock:
            again = (site, reason) in self._reasons
            self._reasons.add((site, reason))
            self._history.failures.append({"site": site, "round": round_number, "reason": reason})
        why = ", for the same reason" if again else f": {reason}"
        told.error("site '%s' is left out of round %d%s", site, round_number + 1, why)
        trained = round_number < self._config.training.rounds
        self.method.rewind(site, self._saved(site) if trained else None)

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
        told.warning("site '%s' was started again and does its task anew", site)
        self.method.restart(site, self._saved(site))

    def _saved(self, site: str) -> Saved | None:
        """Return the server's part of a site as it was when the open round began, if it has one."""
        if site not in self.method.site_parts():
            return None
        return load_checkpoint(self._store.path(self._round["round"], site))

    def close(self, task: SiteTask) -> None:
        """End the task: after a round of training, let the method combine, and write the checkpoint.

        Raises:
            TrainingError: fewer than ``min_sites`` sites did the task.
        """
        # In the job's order, whoever came first.
        done = [name for name in self._sites if self._round["sites"].keys() >= set(self._members(name))]
        for name, reason in (self.method.unfit(done) if task.kind == "train" else {}).items():
            done.remove(name)
            self._leave_out(name, reason)
            self._history.forget_round(self._members(name), task.round)
        present = [site for name in done for site in self._members(name)]
        self._round["sites"] = {site: self._round["sites"][site] for site in present}
        if len(done) < self._config.min_sites:
            out = [failure["site"] for failure in self._history.failures if failure["round"] == task.round]
            raise TrainingError(
                f"{len(done)} sites finished round {task.round + 1}, but min_sites is "
                f"{self._config.min_sites}; the run stops after {self._completed} complete "
                f"rounds; left out, for the reasons above: {', '.join(out)}"
            )
        if task.kind == "test":
            return
        self._round |= self.method.end_round(task.round, {site: self._contributor(site) for site in present})
        self._history.rounds.append(self._round)
        self._completed = task.round + 1
        self._history.end_round(time.monotonic() - self._session_start)
        self._save()
        self._writer.write_round(self._round)
        self._progress.end_round()

    def _contributor(self, site: str) -> Contributor:
        validation = self._history.validation.get(site)
        return Contributor(
            self._history.reports[site]["n_train"], validation[-1]["loss"] if validation else None
        )

    def finish(self) -> dict[str, Any]:
        """Write results, models and events; return the results."""
        self._history.wall_s = time.monotonic() - self._session_start
        results = build_results(
            self._config, self.run_id, self._history, account(self._family.disclosures(self._config), 1)
        )
        write_atomically(self._run_folder / "results.json", json.dumps(results, indent=2).encode())
        for site, task, weights in self.method.models():
            state = {"site": site, "task": task, "config": self._config.to_dict()}
            save_checkpoint(self._run_folder / "models" / f"{site}.safetensors", weights, state)
        self._writer.close(results)
        self._store.clear_scratch()
        log.info("test results, each site with its best round:\n%s", results_table(results))
        if crossed := cross_site_table(results):
            log.info("test results of other sites' networks, by whose they are:\n%s", crossed)
        log.info("results: %s", self._run_folder / "results.json")
        return results

    def _save(self) -> None:
        for site in self.method.site_parts():
            save_checkpoint(self._store.path(self._completed, site), *self.method.site_state(site))
        state = {
            "format": FORMAT,
            "config": self._config.to_dict(),
            "digest": self._config.digest(),
            "sites": self._sites,
            "history": self._history.to_dict(),
        }
        # Written last, so that its presence says that the round is complete.
        tensors = with_prefix(_METHOD, self.method.state())
        save_checkpoint(self._store.path(self._completed, "server"), tensors, state)
        self._store.prune(self._store.rounds("server")[-KEPT_ROUNDS:])

    def _resume(self) -> None:
        rounds = self._store.rounds("server")
        if not rounds:
            raise CheckpointError(f"resume_from: {self._store.folder} holds no complete round")
        self._completed = rounds[-1]
        tensors, state = load_checkpoint(self._store.path(self._completed, "server"))
        self._check_resumed(state)
        self._history = History(**state["history"])
        parts = {
            site: partial(load_checkpoint, self._store.path(self._completed, site))
            for site in self.method.site_parts()
        }
        self.method.load_state(without_prefix(_METHOD, tensors), parts)
        told.info("going on with run %s after %d complete rounds", self.run_id, self._completed)

    def _check_resumed(self, state: Mapping[str, Any]) -> None:
        """Check that a checkpoint is one of this job.

        Raises:
            CheckpointError: it is of another version, configuration or set of sites.
        """
        if state.get("format") != FORMAT:
            raise CheckpointError(
                f"resume_from: run {self.run_id} was begun by another version of this package, whose "
                "checkpoints this one cannot read; begin the run anew, or finish it with that version"
            )
        if state["digest"] != self._config.digest():
            changed = difference(state["config"], self._config.to_dict())
            raise CheckpointError(f"resume_from: run {self.run_id} had another configuration: {changed}")
        if sorted(state["sites"]) != sorted(self._sites):
            raise CheckpointError(f"resume_from: run {self.run_id} had the sites {', '.join(state['sites'])}")
