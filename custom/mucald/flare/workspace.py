"""Where FLARE puts things: a job's configuration, its run folder, and the participant's own folder."""

from pathlib import Path

from nvflare.apis.fl_context import FLContext
from nvflare.apis.workspace import Workspace
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants

from mucald.config.job import JobConfig
from mucald.home import PROVISIONED_HOME, beside, participant_home
from mucald.methods.jobs import load_config


def job_config(fl_ctx: FLContext) -> JobConfig:
    """Read the deployed job's ``mucald.json``.

    Raises:
        ConfigError: it is missing or wrong.
    """
    return load_config(Path(_workspace(fl_ctx).get_app_config_dir(fl_ctx.get_job_id())))


def run_folder(fl_ctx: FLContext) -> Path:
    """Return the job's run folder; FLARE collects the server's when a job is downloaded."""
    return Path(_workspace(fl_ctx).get_run_dir(fl_ctx.get_job_id()))


def home_folder(fl_ctx: FLContext) -> Path:
    """Return the participant's own folder, which outlives the job.

    On a provisioned participant it is ``mucald_home`` in its workspace; in a simulation it lies beside the
    workspace, which the simulator empties.
    """
    root = Path(_workspace(fl_ctx).get_root_dir()).resolve()
    participant = fl_ctx.get_identity_name()
    if fl_ctx.get_job_id() == SimulatorConstants.JOB_NAME:
        # The participant's folder in the simulator's workspace carries its name, which for the server differs
        # from its identity.
        return participant_home(beside(root.parent, root.name), root.name)
    return participant_home(root / PROVISIONED_HOME, participant)


def _workspace(fl_ctx: FLContext) -> Workspace:
    return fl_ctx.get_engine().get_workspace()
