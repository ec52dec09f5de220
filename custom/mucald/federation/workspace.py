"""The workspace of runs in one process: one run at a time, and nothing left of the one before."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from mucald.errors import WorkspaceError

OUTPUTS = ("results.json", "privacy_account.json", "models", "tb_events", "recording")
"""What a participant writes into its folder of a workspace."""

_LOCK = ".lock"


@contextlib.contextmanager
def held(workspace: Path) -> Iterator[None]:
    """Hold a workspace while a run writes into it.

    Raises:
        WorkspaceError: another run holds it, or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            workspace.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((workspace / _LOCK).open("a+", encoding="ascii"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise WorkspaceError(
                f"{workspace} is in use by process {lock.read().strip()}; wait for it, or give another folder"
            ) from None
        except OSError as error:
            raise WorkspaceError(f"{workspace} cannot be written: {error.strerror}") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        finally:
            if [path.name for path in workspace.iterdir()] == [_LOCK]:
                # Nothing came of the run, so no trace of it stays.
                shutil.rmtree(workspace)


def results_in(workspace: Path) -> list[Path]:
    """Return what earlier runs have left in a workspace: the outputs of all participants."""
    folders = sorted(path for path in workspace.iterdir() if path.is_dir()) if workspace.is_dir() else []
    return [folder / name for folder in folders for name in OUTPUTS if (folder / name).exists()]


def empty(workspace: Path) -> None:
    """Delete what earlier runs have left, and nothing else that may lie there."""
    for path in results_in(workspace):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def set_aside(workspace: Path) -> Path | None:
    """Move what earlier runs have left to ``<workspace>.<number>``; return where, if there was anything."""
    found = results_in(workspace)
    if not found:
        return None
    number = 1
    while (place := workspace.with_name(f"{workspace.name}.{number}")).exists():
        number += 1
    for path in found:
        target = place / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        path.rename(target / path.name)
    return place
