"""The errors of the package: what the person at fault reads, and how much of it others may read."""


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
    """A folder that results go to is in use or cannot be written."""


class ReportError(MucaldError):
    """Results are missing, damaged, or cannot be set side by side."""


class RecordingError(MucaldError):
    """The recording of a run cannot be written, is missing, damaged, or belongs to another run."""


class AttackError(MucaldError):
    """An attack cannot be made with what there is."""


class ModelError(MucaldError):
    """The files of a trained model are missing, or do not belong together."""
