"""Turn result folders into one report: a table per site, tests, curves, costs, privacy, examples.

Usage: ``python tools/report.py runs --out report``

Reads every ``results.json`` at or below the given folders, also those downloaded from real sites, and every
``attacks.json`` of tools/attack.py on them, and writes
``report/report.md`` (its figures beside it) and ``report/report.html``, which needs no other file.
"""

import argparse
import sys
from pathlib import Path

from mucald.command_line import FORCE, Parser, check_free, program
from mucald_studies.reporting.comparability import choose_reference
from mucald_studies.reporting.joining import find_attacks
from mucald_studies.reporting.report import report
from mucald_studies.reporting.runs import find_runs, group_runs

PAGES = ("report.md", "report.html")


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="folders with results.json files")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--reference", help="the job to compare with; mucald by default")
    parser.add_argument(
        "--allow-different-budgets",
        action="store_true",
        help="accept runs with other data, rounds, epochs or image size, and mark them",
    )
    parser.add_argument("--force", **FORCE)
    return parser.parse_args(argv)


@program
def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = _arguments(argv)
    check_free([arguments.out / name for name in PAGES], arguments.force)
    methods = group_runs(find_runs(arguments.results))
    reference = choose_reference(methods, arguments.reference)
    attacks = find_attacks(arguments.results)
    page = report(methods, reference, arguments.allow_different_budgets, attacks)
    page.write(arguments.out, *PAGES)
    print(", ".join(str(arguments.out / name) for name in PAGES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
