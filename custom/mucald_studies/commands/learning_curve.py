"""Draw what joining brings against the number of images that a site has.

    mucald learning-curve runs/10 runs/20 runs/40 --out curve

Each folder holds runs whose sites have equally many training images, one of them of a job in which every site
trains alone, as ``mucald experiments`` leaves them. Writes ``curve/learning_curve.md`` with its figure
beside it, and ``curve/learning_curve.html``, which needs no other file.
"""

import argparse
from pathlib import Path

from mucald.command_line import FORCE, Found, Parser, add_json_option, check_free, command
from mucald_studies.reporting.learning_curve import learning_curve

PAGES = ("learning_curve.md", "learning_curve.html")


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald learning-curve", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="folders with results.json files, one per size")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--force", **FORCE)
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Write the curve, and say where it lies."""
    check_free([arguments.out / name for name in PAGES], arguments.force)
    learning_curve(arguments.results).write(arguments.out, *PAGES)
    print(", ".join(str(arguments.out / name) for name in PAGES))
    return Found({"pages": [arguments.out / name for name in PAGES]})


main = command(describe, run)
