"""The launcher's handle, with processes that end in every way."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from nvflare.apis.job_launcher_spec import JobReturnCode
from nvflare.app_common.job_launcher.process_launcher import ProcessHandle
from nvflare.utils.process_utils import spawn_process

from mucald.flare.launcher import RestartingHandle

ENVIRONMENT = dict(os.environ)


class Processes:
    """Starts shell commands one after another and remembers how often."""

    def __init__(self, *commands: str):
        self.commands, self.started = list(commands), 0

    def __call__(self) -> ProcessHandle:
        command = self.commands[min(self.started, len(self.commands) - 1)]
        self.started += 1
        return ProcessHandle(process_adapter=spawn_process(["sh", "-c", command], ENVIRONMENT))


@pytest.fixture
def heeded_interrupts() -> Iterator[None]:
    """Let child processes heed interrupts, which a shell makes all of a command in its background ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(processes: Processes, restarts: int = 3) -> tuple[int, list[int]]:
    """Return the code after the end, and the restarts that were told."""
    told: list[int] = []
    handle = RestartingHandle(processes, restarts, told.append)
    handle.wait()
    return handle.poll(), told


def test_a_process_that_ends_by_itself_is_not_started_again():
    for command, code in (("exit 0", JobReturnCode.SUCCESS), ("exit 1", JobReturnCode.EXECUTION_ERROR)):
        processes = Processes(command)
        assert run(processes) == (code, [])
        assert processes.started == 1


def test_a_killed_process_is_started_again_and_ends_as_the_last_one_does():
    processes = Processes("kill -KILL $$", "kill -SEGV $$", "exit 0")
    assert run(processes) == (JobReturnCode.SUCCESS, [2, 1])
    assert processes.started == 3


def test_a_process_killed_too_often_leaves_the_job_to_the_others():
    processes = Processes("kill -KILL $$")
    assert run(processes, restarts=2) == (JobReturnCode.UNKNOWN, [1, 0])
    assert processes.started == 3


@pytest.mark.usefixtures("heeded_interrupts")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_was_asked_to_end_is_not_started_again(number):
    processes = Processes(f"kill -{int(number)} $$; sleep 9")
    assert run(processes) == (JobReturnCode.UNKNOWN, [])
    assert processes.started == 1


def test_an_aborted_job_is_not_started_again():
    processes = Processes("sleep 30")
    handle = RestartingHandle(processes, 3, lambda _: None)
    waiting = threading.Thread(target=handle.wait)
    waiting.start()
    time.sleep(0.1)
    assert handle.poll() == JobReturnCode.UNKNOWN, "it runs"
    handle.terminate()
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert processes.started == 1
