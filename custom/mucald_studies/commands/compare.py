"""Compare the families of methods on the same sites, images and seeds.

    mucald compare segmentation --out comparison --seeds 7 8 9

Runs what is not done yet, one run after the other, and goes on where it stopped. Then it writes
``comparison/comparison.html`` and ``comparison.md``, also of a part of the rows: what each method achieves
beside what it discloses. Sites draw phantoms, or with ``--home`` read the images that their
``<home>/<site>/site.json`` names. ``--attacks`` names folders with results of ``mucald attack`` on these
runs, which must then be recorded: ``--set runtime.record=true``.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from mucald.command_line import Found, Parser, add_json_option, at_least, command
from mucald.errors import InterruptedRunError, ReportError
from mucald_studies.commands.experiments import changes
from mucald_studies.comparison.comparison import comparison_page
from mucald_studies.comparison.presets import RUNS, chosen_rows, plan_rows, preset_names, read_preset
from mucald_studies.reporting.joining import find_attacks
from mucald_studies.reporting.runner import run_all
from mucald_studies.reporting.runs import Run, group_runs

PAGES = ("comparison.md", "comparison.html")


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald compare", description=__doc__)
    parser.add_argument("preset", choices=preset_names(), help="what is compared")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the runs and the page")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="7 by default")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="ROW", help="some rows, and who trains alone"
    )
    parser.add_argument("--home", type=Path, help="folder of the sites' own folders, for real images")
    parser.add_argument("--threads", type=at_least(1), help="sites that run at once")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="values of mucald.json, for all rows"
    )
    parser.add_argument(
        "--attacks", type=Path, nargs="+", default=[], help="folders with attacks.json files on these runs"
    )
    parser.add_argument("--page-only", action="store_true", help="run nothing; show what is finished")
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Make the runs, and write the page of those that are finished; the status is 1 if some failed."""
    preset = read_preset(arguments.preset)
    rows = chosen_rows(preset, arguments.only)
    failed = 0
    with tempfile.TemporaryDirectory() as made:
        values = changes(arguments.set)
        experiments = plan_rows(rows, arguments.seeds, values, arguments.out, arguments.home, Path(made))
        if not arguments.page_only:
            arguments.out.mkdir(parents=True, exist_ok=True)
            try:
                failed = run_all(experiments, False, arguments.threads)
            except KeyboardInterrupt:
                raise InterruptedRunError("stopped; the same command goes on from here") from None
        finished: list[Run] = [one for each in experiments if (one := each.finished()) is not None]
    methods = group_runs(finished)
    if preset.alone not in {method.first.job for method in methods}:
        raise ReportError(f"no run of '{preset.alone}' in {arguments.out / RUNS}, which gains are taken over")
    page = comparison_page(preset, methods, find_attacks([arguments.out, *arguments.attacks]))
    page.write(arguments.out, *PAGES)
    pages = [arguments.out / name for name in PAGES]
    print(", ".join(map(str, pages)))
    if failed:
        print(f"{failed} failed; the same command tries them again", file=sys.stderr)
    return Found({"pages": pages, "finished": sorted(m.first.job for m in methods)}, status=int(failed > 0))


main = command(describe, run)
