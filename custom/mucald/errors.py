"""The errors of the package: what the person at fault reads, and how much of it others may read."""

import errno
import os
import re
import shutil
import tempfile
import traceback
from pathlib import Path


class MucaldError(Exception):
    """An error with a message for the person who can fix it.

    Args:
        message: names the file, field or site at fault and tells the fix. It may hold local paths and file
            names, so it stays on the machine where it was raised.
        public: what other participants may read. It never holds a file name; the class name by default.
    """

    def __init__(self, message: str, public: str | None = None):
        super().__init__(message)
        self.public = public or type(self).__name__


class _PublicError(MucaldError):
    """Its message holds no private data, hence it is public as a whole."""

    def __init__(self, message: str):
        super().__init__(message, public=message)


class ConfigError(_PublicError):
    """A job's configuration is wrong."""


class DataError(MucaldError):
    """A site's data file, image or mask is missing, unreadable or inconsistent."""


class PolicyError(MucaldError):
    """A site's policy does not allow what a job asks for, or is wrong itself."""


class TrainingError(_PublicError):
    """Training cannot go on, for example because a loss is not finite."""


class WireError(_PublicError):
    """A message was rejected. Its message names the field at fault and holds no payload."""


class CheckpointError(MucaldError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class InterruptedRunError(MucaldError):
    """A run was stopped from outside; its message says how to go on."""


class WorkspaceError(MucaldError):
    """A file or folder that results go to is in use, holds something already, or cannot be written."""


class ResourceError(MucaldError):
    """A file system or a memory refuses what is asked of it."""


class UnexpectedError(MucaldError):
    """Something that nobody foresaw; the message names the file that holds its traceback."""


class ReportError(MucaldError):
    """Results are missing, damaged, or cannot be set side by side."""


class RecordingError(MucaldError):
    """The recording of a run cannot be written, is missing, damaged, or belongs to another run."""


class AttackError(MucaldError):
    """An attack cannot be made with what there is."""


class ModelError(MucaldError):
    """The files of a trained model are missing, or do not belong together."""


_WRITING = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.EFBIG, errno.ENOTEMPTY})
_NO_MEMORY = re.compile(r"(can't|cannot|not enough|out of) (allocate )?memory|bad_alloc", re.IGNORECASE)
_IN_RUST = re.compile(r"\(os error (\d+)\)")


def explained(error: Exception, reading: Path | None = None) -> MucaldError:
    """Return what to tell of an exception: the file, and what mends it; others may read its kind alone.

    Args:
        error: what was raised.
        reading: the file or folder that was being read. What a damaged file makes its reader raise is as
            various as readers are, so it is the file's fault rather than unexpected.
    """
    if isinstance(error, MucaldError):
        return error
    if found := _IN_RUST.search(str(error)):  # as safetensors words it
        error = OSError(int(found[1]), os.strerror(int(found[1])))
    if isinstance(error, OSError):
        return _refused(error)
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return ResourceError(
            "there is too little memory; end other programs, or take smaller batches or images",
            public="there is too little memory",
        )
    kind = type(error).__name__
    if reading is not None:
        return DataError(
            f"{reading}: cannot be read ({kind}: {error}); copy or export it again",
            public=f"a file cannot be read ({kind})",
        )
    return UnexpectedError(
        f"unexpected {kind}: {error}; please report it with {_keep(error)}", public=f"unexpected {kind}"
    )


def is_full(error: OSError) -> bool:
    """Return whether a disk has no room left, or a user no more of it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _refused(error: OSError) -> ResourceError:
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        _, target, reason = error.args[0][0]  # the first of the files that could not be copied
        return ResourceError(f"{target}: cannot be written ({reason})", public="a file cannot be written")
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno == errno.ENOENT:
        what = "does not exist"
    else:
        what = f"cannot be {'written' if error.errno in _WRITING else 'read or written'} ({reason})"
        what += "; make room" if is_full(error) else ""
    name = "a file" if error.filename is None else f"{error.filename}:"
    return ResourceError(f"{name} {what}", public=f"a file {what}")


def _keep(error: Exception) -> str:
    """Write an exception's traceback into a file for its owner alone, and return the file's name."""
    try:
        descriptor, name = tempfile.mkstemp(prefix="mucald-error-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
            traceback.print_exception(error, file=stream)
    except OSError:  # nothing can be kept on this disk, so the end of the traceback must do
        return traceback.format_tb(error.__traceback__)[-1].strip()
    return name
