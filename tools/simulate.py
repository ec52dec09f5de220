"""Run a job in FLARE's simulator through its job API (``SimEnv``), the successor of ``nvflare simulator``.

Usage: ``python tools/simulate.py jobs/mucald -w workspace``

Results lie in ``<workspace>/<job>/server/simulate_job``; the numbers are those of ``nvflare simulator``.
"""

import argparse
import sys
from pathlib import Path

from nvflare.recipe.sim_env import SimEnv

from mucald.command_line import Parser, add_room_options, at_least, leave, program
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


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("job", type=Path, help="a job folder")
    parser.add_argument("-w", "--workspace", type=Path, default=Path("workspace"), help="where results go")
    parser.add_argument("-c", "--clients", help="comma-separated sites; all of the job by default")
    parser.add_argument("-t", "--threads", type=at_least(1), help="sites that run at once; all by default")
    add_room_options(parser, "<workspace>/<job>.1")
    return parser.parse_args(argv)


def simulate(arguments: argparse.Namespace) -> None:
    """Run the simulator.

    Raises:
        MucaldError: the job is wrong, the workspace cannot be used, or there are no results.
        InterruptedRunError: somebody pressed Ctrl-C.
    """
    config, sites = load_job(arguments.job)
    sites = sites if arguments.clients is None else arguments.clients.split(",")
    family = family_of(config.method)
    check_participants(family, config, sites)
    # FLARE refuses to run more sites at once than there are.
    threads = min(arguments.threads or len(sites), len(sites))
    environment = SimEnv(
        clients=sites, num_threads=threads, workspace_root=str(arguments.workspace.resolve())
    )
    root = Path(environment.workspace_root)
    workspace = root / config.name
    _check_spaces(workspace)
    homes = {name: participant_home(beside(workspace, name), name) for name in (SERVER, *sites)}
    with workspaces.held(root):
        _make_room(workspace, arguments.keep, arguments.force or config.resume_from is not None)
        for name in sites:
            for line in data_lines(family, name, config, homes[name]):
                print(line, flush=True)
        before = latest_run(config, homes[SERVER] / "runs")
        try:
            environment.deploy(FolderJob(arguments.job))
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


@program
def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    simulate(_arguments(argv))
    return 0


if __name__ == "__main__":
    leave(main())
