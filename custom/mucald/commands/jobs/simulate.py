"""Run a job in FLARE's simulator through its job API (``SimEnv``), the successor of ``nvflare simulator``.

    mucald simulate jobs/mucald -w workspace

Results lie in ``<workspace>/<job>/server/simulate_job``; the numbers are those of ``nvflare simulator``.
"""

import argparse
from pathlib import Path

from mucald.command_line import Found, Parser, add_json_option, add_room_options, at_least, command
from mucald.commands import write_page
from mucald.deploy.simulator import simulate


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald simulate", description=__doc__)
    parser.add_argument("job", type=Path, help="a job folder")
    parser.add_argument("-w", "--workspace", type=Path, default=Path("workspace"), help="where results go")
    parser.add_argument("-c", "--sites", help="comma-separated sites; all of the job by default")
    parser.add_argument("-t", "--threads", type=at_least(1), help="sites that run at once; all by default")
    add_room_options(parser, "<workspace>/<job>.1")
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Run the simulator."""
    sites = None if arguments.sites is None else arguments.sites.split(",")
    folder = simulate(
        arguments.job, arguments.workspace, sites, arguments.threads, arguments.keep, arguments.force
    )
    write_page(folder / "results.json")
    return Found({"results": folder / "results.json"})


main = command(describe, run)
