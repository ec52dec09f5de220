"""A site's job launcher that starts a killed job process again, so that its death does not end the job.

FLARE's own launcher reports the death of a job process (out of memory, kill) as a failure of the job, which
then ends at every site, whatever ``min_clients`` says. A site's state between rounds is on disk and a round
is repeatable, so the process is started anew and does the open round again from its beginning.
"""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_launcher_spec import JobHandleSpec, JobReturnCode
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher
from nvflare.app_common.job_launcher.process_launcher import ProcessHandle

from mucald.deploy.kits import faults_at_start

CRASHES = frozenset(
    {signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}
)
"""Signals that end a process by accident; a SIGTERM or SIGINT is meant."""


class RestartingLauncher(ClientProcessJobLauncher):
    """Launches job processes on a site; ``local/resources.json`` names it in place of FLARE's.

    Args:
        restarts: how often one job's process is started again after a signal has killed it.
    """

    def __init__(self, restarts: int):
        super().__init__()
        self._restarts = restarts

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Say at the site's start what would keep it from taking part in every job."""
        if event_type == EventType.SYSTEM_BOOTSTRAP:
            workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
            for fault in faults_at_start(Path(workspace.get_root_dir())):
                self.log_error(fl_ctx, fault)
        super().handle_event(event_type, fl_ctx)

    def launch_job(self, job_meta: dict[str, Any], fl_ctx: FLContext) -> JobHandleSpec:
        """Start the job's process."""

        def launch() -> ProcessHandle:
            return ClientProcessJobLauncher.launch_job(self, job_meta, fl_ctx)

        def restarted(left: int) -> None:
            self.logger.warning("the job process was killed; started again, %d restarts left", left)

        return RestartingHandle(launch, self._restarts, restarted)


class RestartingHandle(JobHandleSpec):
    """A job's process and those that take its place.

    Args:
        launch: starts a process.
        restarts: how often, beside the first time.
        restarted: is told how many restarts are left, after each.
    """

    def __init__(self, launch: Callable[[], ProcessHandle], restarts: int, restarted: Callable[[int], None]):
        super().__init__()
        self._launch, self._left, self._restarted = launch, restarts, restarted
        self._lock = threading.Lock()
        self._ended = False
        self._process = launch()

    def terminate(self) -> None:
        """End the process for good, as FLARE does when the job is aborted."""
        with self._lock:
            self._ended = True
            self._process.terminate()

    def poll(self) -> int:
        """Return FLARE's code of how the process ended.

        One that a signal ended counts as unknown: then the server leaves the site out and goes on with the
        others.
        """
        if self._signal() is not None and not self._ended:
            return JobReturnCode.UNKNOWN
        return self._process.poll()

    def wait(self) -> None:
        """Return when the job has ended here: finished, aborted, or killed too often."""
        while True:
            self._process.wait()
            with self._lock:
                if self._ended or self._signal() not in CRASHES or self._left == 0:
                    return
                self._left -= 1
                self._process = self._launch()
            self._restarted(self._left)

    def _signal(self) -> int | None:
        """Return the number of the signal that ended the process, if one did."""
        code = self._process.adapter.poll()
        return -code if code is not None and code < 0 else None
