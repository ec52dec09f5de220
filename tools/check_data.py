"""Report on a site's images before it trains: counts, sizes, values, classes, copies, unreadable files.

    python tools/check_data.py home/endoscopy/site.json --out check

prints the report and writes it with pictures into ``check/data.html``. That page holds images, file names and
patients: it stays at the site. The exit status is 1 if something must be mended.
"""

import argparse
import sys
from pathlib import Path

from mucald.command_line import Parser, program
from mucald.data.images.survey import survey
from mucald.data.measures import no_measures
from mucald.data.site_file import read_site_file
from mucald.methods.split.causal.graphs import CAUSAL_TASKS, measures_of
from mucald_studies.reporting.data_page import data_document

PAGE = "data.html"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("site_file", type=Path, help="the site's site.json")
    parser.add_argument("--out", type=Path, help="the folder to write the page into")
    return parser.parse_args(argv)


@program
def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = _arguments(argv)
    site_file = read_site_file(arguments.site_file)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    known = site_file.task in CAUSAL_TASKS
    found = survey(site_file, (measures_of if known else no_measures)(site_file.task))
    print(data_document(found, pictures=False).markdown(), end="")
    if arguments.out is not None:
        page = arguments.out / PAGE
        page.touch(mode=0o600)
        page.write_text(data_document(found, pictures=True).html(), encoding="utf-8")
        print(f"\n{page}")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
