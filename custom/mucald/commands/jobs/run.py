"""Run a job in one process, without FLARE, with the numbers that FLARE would give.

    mucald run jobs/mucald -w workspace
    mucald run jobs/mucald -w workspace --resume-from latest

Results lie in ``<workspace>/server/results.json``, and in ``models`` and ``tb_events`` of each participant.
"""

import argparse
import dataclasses
import logging
import os
import sys
from pathlib import Path

from mucald.command_line import Found, Parser, add_json_option, add_room_options, at_least, command
from mucald.commands import write_page
from mucald.errors import InterruptedRunError
from mucald.federation import workspace as workspaces
from mucald.federation.admission import check_participants
from mucald.federation.in_process import run_in_process
from mucald.home import beside, participant_home
from mucald.methods import family_of
from mucald.methods.jobs import load_job

log = logging.getLogger("mucald")


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald run", description=__doc__)
    parser.add_argument("job", type=Path, help="a job folder, for example jobs/mucald")
    parser.add_argument("-w", "--workspace", type=Path, default=Path("workspace"), help="where results go")
    parser.add_argument("-c", "--sites", help="comma-separated sites; all of the job by default")
    parser.add_argument(
        "-t", "--threads", type=at_least(1), help="sites that run at once; as many as cores by default"
    )
    parser.add_argument("--seed", type=int, help="instead of the job's")
    parser.add_argument("--resume-from", help="a run's name as printed when it began, or 'latest'")
    add_room_options(parser, "<workspace>.1")
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Run the job, and say how each site does."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        _run(arguments)
    except KeyboardInterrupt:
        raise InterruptedRunError("stopped before the run began; there is nothing to go on with") from None
    results = arguments.workspace / "server" / "results.json"
    write_page(results)
    return Found({"results": results})


def _run(arguments: argparse.Namespace) -> None:
    workspace = arguments.workspace.resolve()
    config, sites = load_job(arguments.job)
    if arguments.seed is not None:
        config = dataclasses.replace(config, seed=arguments.seed)
    if arguments.resume_from is not None:
        config = dataclasses.replace(config, resume_from=arguments.resume_from)
    names = sites if arguments.sites is None else arguments.sites.split(",")
    family = family_of(config.method)
    check_participants(family, config, names)
    with workspaces.held(workspace):
        if arguments.keep:
            if (place := workspaces.set_aside(workspace, names)) is not None:
                log.info("results of an earlier run are now in %s", place)
        elif config.resume_from is None:
            workspaces.empty(workspace, names, arguments.force)
        workspaces.note(workspace, names)
        run_in_process(
            family,
            config,
            names,
            workspace,
            lambda name: participant_home(beside(workspace, name), name),
            arguments.threads or os.cpu_count() or 1,
        )


main = command(describe, run)
