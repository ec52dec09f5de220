"""Components of FLARE that note when weights leave and arrive, for this family's jobs and for FLARE's FedAvg.

Each participant appends to a file of its own in the folder of :data:`FOLDER_VARIABLE`. Times are of the
machine's monotonic clock, which all processes share.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psutil
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from mucald.errors import TrainingError
from mucald.flare.executor import MethodExecutor

FOLDER_VARIABLE = "MUCALD_CROSSING_FOLDER"
SITES = 2
SERVER = "server"
What = Literal["begun", "ended", "sent", "arrived"]
"""What a site notes of its rounds, and the server of what it hands to a site and gets from it."""

_TRAIN = "train"
_EVENTS: dict[str, What] = {
    EventType.AFTER_TASK_DATA_FILTER: "sent",
    EventType.BEFORE_PROCESS_SUBMISSION: "arrived",
}
_CHANGE = 1e-4
_POLL_S, _MEET_S = 0.005, 300.0


def _note(who: str, what: What) -> None:
    resident = psutil.Process().memory_info().rss
    line = {"what": what, "time": time.monotonic(), "resident": resident}
    with (Path(os.environ[FOLDER_VARIABLE]) / f"{who}.jsonl").open("a", encoding="ascii") as stream:
        stream.write(json.dumps(line) + "\n")


def read_notes(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what each participant has noted, in order."""
    return {
        path.stem: [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
        for path in sorted(folder.glob("*.jsonl"))
    }


class _Rounds:
    """Notes a site's begin and end of each round; no site ends before all have their updates ready."""

    def __init__(self) -> None:
        self._round = 0

    @contextmanager
    def timed(self, task_name: str, fl_ctx: FLContext) -> Iterator[None]:
        if task_name != _TRAIN:
            yield
            return
        site = fl_ctx.get_identity_name()
        _note(site, "begun")
        yield
        self._meet(site)
        _note(site, "ended")
        self._round += 1

    def _meet(self, site: str) -> None:
        folder, end = Path(os.environ[FOLDER_VARIABLE]), time.monotonic() + _MEET_S
        (folder / f"{self._round}.{site}.ready").touch()
        while len(list(folder.glob(f"{self._round}.*.ready"))) < SITES:
            if time.monotonic() > end:
                raise TrainingError(f"{site}: no other site came to the end of round {self._round + 1}")
            time.sleep(_POLL_S)


class TimedMethod(MethodExecutor):
    """A site of this package, timed."""

    def __init__(self) -> None:
        super().__init__()
        self._rounds = _Rounds()

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """Do one task."""
        with self._rounds.timed(task_name, fl_ctx):
            return super().execute(task_name, shareable, fl_ctx, abort_signal)


class TimedEcho(Executor):
    """A site of FLARE's FedAvg that trains nothing: it returns the model that came, slightly changed."""

    def __init__(self) -> None:
        super().__init__()
        self._rounds = _Rounds()
        # As FLARE's own executors for torch do; without it a tensor arrives empty.
        fobs.register(TensorDecomposer)

    def execute(
        self,
        task_name: str,
        shareable: Shareable,
        fl_ctx: FLContext,
        abort_signal: Signal,  # noqa: ARG002
    ) -> Shareable:
        """Do one task."""
        with self._rounds.timed(task_name, fl_ctx):
            received = FLModelUtils.from_shareable(shareable).params
            return FLModelUtils.to_shareable(FLModel(params={k: v + _CHANGE for k, v in received.items()}))


class ServerNotes(FLComponent):
    """Notes when the server hands a round to a site, and when a site's update has arrived whole."""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Take an event of FLARE's."""
        if event_type in _EVENTS and fl_ctx.get_prop(FLContextKey.TASK_NAME) == _TRAIN:
            _note(SERVER, _EVENTS[event_type])
