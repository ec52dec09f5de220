"""``python -m mucald jobs/mucald``: run a job in one process, with the numbers that FLARE would give."""

import argparse
import dataclasses
import logging
import os
import sys
from pathlib import Path

from mucald.errors import MucaldError
from mucald.federation.in_process import run_in_process
from mucald.home import beside, participant_home
from mucald.methods import family_of
from mucald.methods.jobs import load_job


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mucald", description=__doc__)
    parser.add_argument("job", type=Path, help="a job folder, for example jobs/mucald")
    parser.add_argument("-w", "--workspace", type=Path, default=Path("workspace"), help="where results go")
    parser.add_argument("-c", "--clients", help="comma-separated sites; all of the job by default")
    parser.add_argument(
        "-t", "--threads", type=int, help="sites that run at once; as many as cores by default"
    )
    parser.add_argument("--seed", type=int, help="instead of the job's")
    parser.add_argument("--resume-from", help="a run's name as printed when it began, or 'latest'")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    workspace = arguments.workspace.resolve()
    try:
        config, sites = load_job(arguments.job)
        if arguments.seed is not None:
            config = dataclasses.replace(config, seed=arguments.seed)
        if arguments.resume_from is not None:
            config = dataclasses.replace(config, resume_from=arguments.resume_from)
        run_in_process(
            family_of(config.method),
            config,
            arguments.clients.split(",") if arguments.clients else sites,
            workspace,
            lambda name: participant_home(beside(workspace, name), name),
            arguments.threads or os.cpu_count() or 1,
        )
    except MucaldError as error:
        logging.getLogger("mucald").error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
