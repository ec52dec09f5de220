"""FLARE's two components of a job with the probe installed; each process leaves what it found in a file."""

import contextlib
import json
import os
from pathlib import Path

from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from mucald.errors import TrainingError
from mucald.flare.controller import FederationController
from mucald.flare.executor import MethodExecutor
from mucald_studies.benchmark.probing.parts import PARTS
from mucald_studies.benchmark.probing.probe import Ledger, Probe

FOLDER_VARIABLE = "MUCALD_PROBE_FOLDER"


def _leave(probe: Probe) -> None:
    path = Path(os.environ[FOLDER_VARIABLE]) / f"{os.getpid()}.json"
    path.write_text(json.dumps(probe.ledger.to_dict()), encoding="ascii")


def read_ledgers(folder: Path) -> Ledger:
    """Return what all processes have left, together.

    Raises:
        TrainingError: none left anything.
    """
    whole = Ledger()
    for path in sorted(folder.glob("*.json")):
        whole.add(json.loads(path.read_text(encoding="ascii")))
    if not whole.steps:
        raise TrainingError(f"no process left what it measured in {folder}; the job took no training step")
    return whole


class ProbedController(FederationController):
    """The workflow, timed."""

    def __init__(self) -> None:
        super().__init__()
        self._installed = contextlib.ExitStack()
        self._probe = Probe(PARTS)

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Build the server; its handler has to be timed before the channel gets to know it."""
        self._installed.enter_context(self._probe.installed())
        super().start_controller(fl_ctx)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Run all rounds and the test, and leave what the server's steps took."""
        with self._installed:
            super().control_flow(abort_signal, fl_ctx)
        _leave(self._probe)


class ProbedExecutor(MethodExecutor):
    """A site, timed."""

    def __init__(self) -> None:
        super().__init__()
        self._probe = Probe(PARTS)

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """Do one task, and leave what the steps so far took."""
        with self._probe.installed():
            result = super().execute(task_name, shareable, fl_ctx, abort_signal)
        _leave(self._probe)
        return result
