"""Submitting a job to a running federation, following it, and fetching its results."""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from nvflare.apis.fl_exception import FLCommunicationError
from nvflare.apis.job_def import RunStatus
from nvflare.fuel.flare_api.api_spec import (
    AuthenticationError,
    AuthorizationError,
    InternalError,
    InvalidJobDefinition,
    JobNotFound,
    NoConnection,
    SessionClosed,
)
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

from mucald.deploy.kits import open_kit
from mucald.errors import MucaldError
from mucald.federation.progress import LOGGER

POLL_S = 2.0
LOST = "LOST"
"""Status of a job that ran when its server ended. FLARE lists it as running for ever."""
_LOGIN_TIMEOUT_S = 15.0
_REFUSALS = (AuthenticationError, InvalidJobDefinition, JobNotFound, InternalError)
# A server that is starting listens before it can answer a login: FLCommunicationError, "no callback".
_DISCONNECTIONS = (NoConnection, SessionClosed, ConnectionError, FLCommunicationError)
_LOG = "log.json"
"""FLARE's log of a job with an object of JSON in every line."""


class SubmissionError(MucaldError):
    """The federation refused a job, cannot be reached, or the job failed."""


class Unreachable(SubmissionError):  # noqa: N818 - a state more than an error
    """The server does not answer."""


class NotAllowed(SubmissionError):  # noqa: N818 - as FLARE says it
    """The user's role may not do that."""


class Federation:
    """A running federation, as the owner of an admin's start-up kit sees it; a context manager.

    Args:
        kit: the admin's start-up kit.

    Raises:
        ConfigError: the folder is no start-up kit.
        SubmissionError: it is no admin's.
    """

    def __init__(self, kit: Path):
        opened = open_kit(kit)
        if opened.kind != "admin":
            raise SubmissionError(f"{kit} is the start-up kit of a {opened.kind}; jobs need an admin's")
        self._folder, self._user = opened.folder, str(opened.startup["admin"]["username"])
        self._session: Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Log out."""
        session, self._session = self._session, None
        if session is not None:
            # Not Session.close, which asks the server to log out and waits for its answer.
            session.api.close()

    def submit(self, job: Path) -> str:
        """Submit a job folder as it is and return FLARE's id of it.

        Raises:
            SubmissionError: the server cannot be reached or refuses the job.
        """
        return self._ask(lambda session: session.submit_job(str(job)))

    def meta(self, job_id: str) -> dict[str, Any]:
        """Return what the server says of a job: status, times, sites.

        Raises:
            SubmissionError: the server cannot be reached or has no such job.
        """
        return self._ask(lambda session: session.get_job_meta(job_id))

    def refusals(self, job_id: str) -> list[str]:
        """Return what kept server and sites from starting a job, each with its name.

        Raises:
            SubmissionError: the server cannot be reached or has no such job.
        """
        return [line for line in self.meta(job_id).get("job_deploy_detail", []) if not line.endswith(": OK")]

    def status(self, job_id: str) -> str:
        """Return FLARE's status of a job, such as ``RUNNING`` or ``FINISHED:COMPLETED``, or ``LOST``.

        Raises:
            SubmissionError: the server cannot be reached or has no such job.
        """
        meta = self.meta(job_id)
        if meta["status"] in (RunStatus.RUNNING.value, RunStatus.DISPATCHED.value):
            server = self._ask(lambda session: session.get_system_info()).server_info
            # A job is called dispatched a moment before its time is noted.
            if server.start_time > meta.get("last_schedule_time", math.inf):
                return LOST
        return str(meta["status"])

    def sites(self) -> list[str]:
        """Return the names of the sites that are connected.

        Raises:
            SubmissionError: the server cannot be reached.
        """
        return sorted(
            client.name for client in self._ask(lambda session: session.get_connected_client_list())
        )

    def wait_for_server(self, timeout_s: float) -> None:
        """Wait until the server answers, at most ``timeout_s``.

        Raises:
            Unreachable: it does not.
        """
        self.wait_for_sites((), timeout_s)

    def wait_for_sites(self, sites: Iterable[str], timeout_s: float) -> list[str]:
        """Wait until ``sites`` are connected, at most ``timeout_s``; return those that are not.

        Raises:
            Unreachable: the server does not answer at the end of that time.
        """
        end = time.monotonic() + timeout_s
        while True:
            try:
                absent = sorted(set(sites) - set(self.sites()))
                if not absent or time.monotonic() > end:
                    return absent
            except Unreachable:
                if time.monotonic() > end:
                    raise
            time.sleep(POLL_S)

    def progress(self, job_id: str) -> list[str]:
        """Return what the coordinator tells of a job: the run's name, each site's rounds, who is left out.

        Raises:
            SubmissionError: the server cannot be reached or shows this user no log.
        """
        logs = self._ask(lambda session: session.get_job_logs(job_id, log_file_name=_LOG))["logs"]
        entries = _entries(str(logs.get("server", "")))
        return [str(entry["message"]) for entry in entries if entry.get("fullName") == LOGGER]

    def follow(self, job_id: str, tell: Callable[[str], None], timeout_s: float | None = None) -> str:
        """Wait until a job has ended, telling each new line of its progress; return its status.

        A server that does not answer is waited for: it may be restarting.

        Raises:
            SubmissionError: the time is over; the job goes on.
        """
        start, told, status = time.monotonic(), set[str](), ""
        while True:
            try:
                status = self.status(job_id)
                lines = [f"job {job_id}: {status}"]
                if status not in (RunStatus.SUBMITTED.value, RunStatus.DISPATCHED.value):
                    with suppress(NotAllowed):
                        lines += self.progress(job_id)
            except Unreachable as error:
                lines = [str(error)]
            for line in lines:
                if line not in told:
                    tell(line)
            told |= set(lines)
            if status == LOST or status.startswith("FINISHED"):
                return status
            if timeout_s is not None and time.monotonic() - start > timeout_s:
                raise SubmissionError(f"job {job_id} is still '{status}' after {timeout_s:g} s; it goes on")
            time.sleep(POLL_S)

    def abort(self, job_id: str) -> None:
        """End a job.

        Raises:
            SubmissionError: the server cannot be reached or the job does not run.
        """
        self._ask(lambda session: session.abort_job(job_id))

    def download(self, job_id: str, folder: Path) -> Path:
        """Fetch a job's results into ``folder/<job_id>`` and return it.

        Raises:
            SubmissionError: the server cannot be reached or has no such results.
        """
        target = folder / job_id
        with suppress(FileNotFoundError):
            shutil.rmtree(target)
        return Path(self._ask(lambda session: session.download_job_result(job_id, str(folder))))

    def _ask(self, question: Callable[[Session], Any]) -> Any:
        try:
            if self._session is None:
                self._session = new_secure_session(
                    self._user, str(self._folder), timeout=_LOGIN_TIMEOUT_S, auto_login_max_tries=1
                )
            return question(self._session)
        except _DISCONNECTIONS as error:
            self.close()
            raise Unreachable(f"the server does not answer: {error}") from None
        except AuthorizationError as error:
            raise NotAllowed(f"this user may not do that: {error}") from None
        except _REFUSALS as error:
            raise SubmissionError(f"the server refuses: {error}") from None


def _entries(log: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of a log; FLARE may cut off its beginning, and the end may not be written yet."""
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry
