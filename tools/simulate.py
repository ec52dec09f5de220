"""Run a job in FLARE's simulator through its job API (``SimEnv``), the successor of ``nvflare simulator``.

Usage: ``python tools/simulate.py jobs/mucald -w workspace``

Results lie in ``<workspace>/<job>/server/simulate_job``; the numbers are those of ``nvflare simulator``.
"""

import argparse
import sys
from pathlib import Path

from nvflare.recipe.sim_env import SimEnv

from mucald.deploy.folder_job import FolderJob
from mucald.errors import MucaldError


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", type=Path, help="a job folder")
    parser.add_argument("-w", "--workspace", type=Path, default=Path("workspace"), help="where results go")
    parser.add_argument("-c", "--clients", help="comma-separated sites; all of the job by default")
    parser.add_argument("-t", "--threads", type=int, help="sites that run at once; all by default")
    arguments = parser.parse_args(argv)
    try:
        job = FolderJob(arguments.job)
        sites = arguments.clients.split(",") if arguments.clients else job.sites
        root = str(arguments.workspace.resolve())
        SimEnv(clients=sites, num_threads=arguments.threads, workspace_root=root).deploy(job)
    except (MucaldError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
