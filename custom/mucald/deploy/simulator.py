"""A job in FLARE's simulator through its job API (``SimEnv``), the successor of ``nvflare simulator``."""

import sys
from pathlib import Path

from nvflare.recipe.sim_env import SimEnv

from mucald.deploy.folder_job import FolderJob
from mucald.errors import InterruptedRunError, TrainingError, WorkspaceError
from mucald.federation import workspace as workspaces
from mucald.federation.admission import check_participants
from mucald.federation.participant import data_lines
from mucald.federation.runs import latest_run
from mucald.home import beside, participant_home
from mucald.methods import family_of
from mucald.methods.jobs import load_job

SERVER = "server"


def simulate(
    job: Path, workspace_root: Path, sites: list[str] | None, threads: int | None, keep: bool, force: bool
) -> Path:
    """Run a job in the simulator, and return the folder of its results.

    Args:
        job: a job folder.
        workspace_root: where the workspace, which is named like the job, is made.
        sites: names; all of the job by default.
        threads: sites that run at once; all by default.
        keep: move an earlier simulation out of the way.
        force: let FLARE delete it.

    Raises:
        MucaldError: the job is wrong, the workspace cannot be used, or there are no results.
        InterruptedRunError: somebody pressed Ctrl-C.
    """
    config, all_sites = load_job(job)
    sites = sites or all_sites
    family = family_of(config.method)
    check_participants(family, config, sites)
    # FLARE refuses to run more sites at once than there are.
    threads = min(threads or len(sites), len(sites))
    environment = SimEnv(clients=sites, num_threads=threads, workspace_root=str(workspace_root.resolve()))
    root = Path(environment.workspace_root)
    workspace = root / config.name
    _check_spaces(workspace)
    homes = {name: participant_home(beside(workspace, name), name) for name in (SERVER, *sites)}
    with workspaces.held(root):
        _make_room(workspace, keep, force or config.resume_from is not None)
        for name in sites:
            for line in data_lines(family, name, config, homes[name]):
                print(line, flush=True)
        before = latest_run(config, homes[SERVER] / "runs")
        try:
            environment.deploy(FolderJob(job))
        except RuntimeError as error:
            raise TrainingError(str(error)) from None
        except KeyboardInterrupt:
            run = latest_run(config, homes[SERVER] / "runs")
            if run == before and config.resume_from is None:
                raise InterruptedRunError("stopped before the run began") from None
            raise InterruptedRunError(
                f"stopped; to go on, set resume_from to '{run}' in the job and give the same command"
            ) from None
    folder = workspace / SERVER / "simulate_job"
    if not (folder / "results.json").exists():
        raise TrainingError(f"the simulator has ended without results; {folder / 'log.txt'} tells why")
    return folder


def _check_spaces(workspace: Path) -> None:
    for path in (str(workspace), sys.executable):
        if len(path.split()) > 1:
            raise WorkspaceError(
                f"{path} has a space in it, at which FLARE's simulator splits its commands; use another"
            )


def _make_room(workspace: Path, keep: bool, force: bool) -> None:
    """Move an earlier simulation out of the way, or leave it to FLARE, which empties the workspace."""
    if not workspace.exists() or not any(workspace.iterdir()):
        return
    if keep:
        place = workspaces.numbered(workspace)
        workspace.rename(place)
        print(f"the workspace of an earlier run is now {place}")
    elif not (workspace / SERVER / "local").exists():
        raise WorkspaceError(
            f"{workspace} is no workspace of FLARE's simulator, which would delete all in it; give another "
            "folder, or --keep to move it"
        )
    elif not force:
        raise workspaces.is_used(workspace)
