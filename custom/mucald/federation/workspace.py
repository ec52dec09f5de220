"""The workspace of runs in one process: one run at a time, and nothing left of the one before."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from mucald.errors import WorkspaceError
from mucald.state.files import write_atomically

OUTPUTS = (
    "results.json",
    "results.html",
    "privacy_account.json",
    "models",
    "tb_events",
    "recording",
    "files",
)
"""What a participant writes into its folder of a workspace."""

_LOCK = ".lock"
_PARTICIPANTS = ".participants"
_SERVER = "server"
_OF_FLARE = {
    "startup": "a start-up kit",
    "server/startup": "start-up kits",
    "server/local": "FLARE's simulator",
    "server/simulate_job": "FLARE's simulator",
}
"""What tells that a folder belongs to FLARE, and to what of it."""


@contextlib.contextmanager
def held(workspace: Path) -> Iterator[None]:
    """Hold a workspace while a run writes into it.

    Raises:
        WorkspaceError: another run holds it, it belongs to FLARE, or the folder cannot be written.
    """
    for name, owner in _OF_FLARE.items():
        if (workspace / name).exists():
            raise WorkspaceError(
                f"{workspace} belongs to {owner}, which may be at work and would mix its files with those of "
                "this run; give another folder with -w"
            )
    is_new = not workspace.exists()
    if not workspace.name:
        raise WorkspaceError(f"{workspace} cannot be a workspace; give a folder in it")
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
            raise WorkspaceError(f"{workspace} cannot be written ({error.strerror})") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        try:
            yield
        finally:
            if {path.name for path in workspace.iterdir()} <= {_LOCK, _PARTICIPANTS}:
                # Nothing came of the run, so no trace of it stays.
                (workspace / _PARTICIPANTS).unlink(missing_ok=True)
                (workspace / _LOCK).unlink()
                if is_new:
                    workspace.rmdir()


def note(workspace: Path, participants: Iterable[str]) -> None:
    """Note who writes into a workspace from now on, so that their outputs are known for those of a run."""
    names = _noted(workspace) | {_SERVER, *participants}
    write_atomically(workspace / _PARTICIPANTS, "\n".join(sorted(names)).encode())


def _noted(workspace: Path) -> set[str]:
    path = workspace / _PARTICIPANTS
    return set(path.read_text(encoding="utf-8").split("\n")) if path.exists() else set()


def _outputs(workspace: Path, participants: Iterable[str]) -> list[Path]:
    paths = (workspace / name / output for name in sorted(participants) for output in OUTPUTS)
    return [path for path in paths if path.exists()]


def empty(workspace: Path, participants: Iterable[str], force: bool) -> None:
    """Delete what earlier runs have left, if it may be, and nothing else that may lie there.

    Args:
        workspace: its folder.
        participants: those of the run that is to begin.
        force: whether anything may be deleted.

    Raises:
        WorkspaceError: there are results of an earlier run and no ``force``, or files that no run has left
            are where this one is to write.
    """
    noted = _noted(workspace)
    if strange := _outputs(workspace, {_SERVER, *participants} - noted):
        raise WorkspaceError(
            f"{strange[0]} is of no run that this workspace knows; give another folder, or --keep to move it "
            f"to {workspace}.1"
        )
    found = _outputs(workspace, noted)
    if found and not force:
        raise is_used(workspace)
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def is_used(workspace: Path) -> WorkspaceError:
    """Return what to say of a workspace with results that may not be deleted."""
    return WorkspaceError(
        f"{workspace} holds results of an earlier run; --keep moves them to {numbered(workspace)}, --force "
        "deletes them; or give another folder"
    )


def set_aside(workspace: Path, participants: Iterable[str]) -> Path | None:
    """Move what earlier runs have left to ``<workspace>.<number>``; return where, if there was anything.

    Arguments are the first two of :func:`empty`.
    """
    found = _outputs(workspace, _noted(workspace) | {_SERVER, *participants})
    if not found:
        return None
    place = numbered(workspace)
    for path in found:
        target = place / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        path.rename(target / path.name)
    return place


def numbered(workspace: Path) -> Path:
    """Return the first ``<workspace>.<number>`` that does not exist."""
    number = 1
    while (place := workspace.with_name(f"{workspace.name}.{number}")).exists():
        number += 1
    return place
