"""Runs a command and watches it: how long it takes, and how much memory each process needed at most."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import psutil

from mucald.errors import TrainingError

_POLL_S = 0.1
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_TAIL = 2000
_END_S = 10


@dataclass
class Watched:
    """What was seen of processes: for how long, and by number their most resident bytes and command lines."""

    seconds: float = 0.0
    peaks: dict[int, int] = field(default_factory=dict)
    commands: dict[int, list[str]] = field(default_factory=dict)


@contextmanager
def watched(roots: Sequence[int]) -> Iterator[Watched]:
    """Watch processes and all that they start while the context lasts; numbers of the first are given."""
    seen, ended = Watched(), Event()

    def watch() -> None:
        while not ended.wait(_POLL_S):
            for each in (process for root in roots for process in tree(root)):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess, OSError):
                    status = Path(f"/proc/{each.pid}/status").read_text(encoding="ascii", errors="replace")
                    if peak := _PEAK.search(status):
                        seen.peaks[each.pid] = int(peak[1]) * 1024
                        seen.commands[each.pid] = each.cmdline() or seen.commands.get(each.pid, [])

    thread = Thread(target=watch, daemon=True)
    start = time.perf_counter()
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
        seen.seconds = time.perf_counter() - start


def tree(root: int) -> list[psutil.Process]:
    """Return a process and all that it started; none if it has ended."""
    try:
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process at once, with all it started, in whatever session that is."""
    processes = tree(process.pid)
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
    psutil.wait_procs(processes, timeout=_END_S)


def execute(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Watched:
    """Run a command to its end, its output into ``log``.

    Raises:
        TrainingError: it failed; the message has the end of its output.
    """
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        try:
            with watched([process.pid]) as seen:
                status = process.wait()
        finally:
            process.kill()
            process.wait()
    if status != 0:
        tail = log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
        raise TrainingError(f"{' '.join(command)} ended with status {status}:\n{tail}")
    return seen
