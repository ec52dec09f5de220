"""Turn result folders into one report: a table per site, tests, curves, costs, privacy, examples.

    mucald report runs --out report

Reads every ``results.json`` at or below the given folders, also those downloaded from real sites, and every
``attacks.json`` of ``mucald attack`` on them, and writes
``report/report.md`` (its figures beside it) and ``report/report.html``, which needs no other file.
"""

import argparse
from pathlib import Path

from mucald.command_line import FORCE, Found, Parser, add_json_option, check_free, command
from mucald_studies.reporting.comparability import choose_reference
from mucald_studies.reporting.joining import find_attacks
from mucald_studies.reporting.report import report
from mucald_studies.reporting.runs import find_runs, group_runs

PAGES = ("report.md", "report.html")


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald report", description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="folders with results.json files")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--reference", help="the job to compare with; mucald by default")
    parser.add_argument(
        "--allow-different-budgets",
        action="store_true",
        help="accept runs with other data, rounds, epochs or image size, and mark them",
    )
    parser.add_argument("--force", **FORCE)
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Write the report, and say where it lies."""
    check_free([arguments.out / name for name in PAGES], arguments.force)
    methods = group_runs(find_runs(arguments.results))
    reference = choose_reference(methods, arguments.reference)
    attacks = find_attacks(arguments.results)
    page = report(methods, reference, arguments.allow_different_budgets, attacks)
    page.write(arguments.out, *PAGES)
    print(", ".join(str(arguments.out / name) for name in PAGES))
    return Found({"pages": [arguments.out / name for name in PAGES]})


main = command(describe, run)
