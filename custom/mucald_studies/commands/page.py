"""Write the results of one run as a page, beside its ``results.json``.

    mucald page workspace

``results.html`` shows scores, curves, example predictions, costs, and what left the sites. It loads nothing
from elsewhere. ``mucald run``, ``simulate`` and ``submit`` write it too where the studies are installed.

It shows pictures of phantoms alone; ``--own-pictures`` adds those of sites with images of their own, whose
folders must lie beside the results. Such a page stays where the images may be seen.
"""

import argparse
from pathlib import Path

from mucald.command_line import Found, Parser, add_json_option, command
from mucald_studies.reporting.run_page import write_run_page


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald page", description=__doc__)
    parser.add_argument("run", type=Path, help="the run's workspace, or its results.json")
    parser.add_argument(
        "--own-pictures", action="store_true", help="show predictions on sites' own images too"
    )
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Write the page, and say where it lies."""
    path = write_run_page(arguments.run, arguments.own_pictures)
    print(f"page: {path}")
    return Found({"page": path})


main = command(describe, run)
