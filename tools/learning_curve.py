"""Draw what joining brings against the number of images that a site has.

Usage: ``python tools/learning_curve.py runs/10 runs/20 runs/40 --out curve``

Each folder holds runs whose sites have equally many training images, one of them of a job in which every site
trains alone, as ``tools/experiments.py`` leaves them. Writes ``curve/learning_curve.md`` with its figure
beside it, and ``curve/learning_curve.html``, which needs no other file.
"""

import sys
from pathlib import Path

from mucald.command_line import FORCE, Parser, check_free, program
from mucald_studies.reporting.learning_curve import learning_curve

PAGES = ("learning_curve.md", "learning_curve.html")


@program
def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = Parser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="folders with results.json files, one per size")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--force", **FORCE)
    arguments = parser.parse_args(argv)
    check_free([arguments.out / name for name in PAGES], arguments.force)
    learning_curve(arguments.results).write(arguments.out, *PAGES)
    print(", ".join(str(arguments.out / name) for name in PAGES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
