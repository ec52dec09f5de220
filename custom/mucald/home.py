"""Where a participant keeps what outlives a job: site file, noise secret, cache, checkpoints."""

import os
from pathlib import Path

from mucald.errors import WorkspaceError

HOME_VARIABLE = "MUCALD_HOME"

PROVISIONED_HOME = "mucald_home"
"""The home in a provisioned participant's workspace; called like the package, it could be imported for it."""


def participant_home(default: Path, participant: str) -> Path:
    """Return ``$MUCALD_HOME/<participant>``, or ``default`` where the variable is not set.

    Raises:
        WorkspaceError: the variable begins with ``~`` and a user whom this machine does not know.
    """
    root = os.environ.get(HOME_VARIABLE)
    if not root:
        return default
    try:
        return Path(root).expanduser().resolve() / participant
    except RuntimeError as error:
        raise WorkspaceError(f"{HOME_VARIABLE}={root}: {error}") from None


def beside(workspace: Path, participant: str) -> Path:
    """Return the default home in a simulation: the simulator empties its workspace, so it lies beside it."""
    return workspace.with_name(workspace.name + ".mucald") / participant
