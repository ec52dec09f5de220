"""Run jobs with several seeds, each run in a process of its own, and go on where it stopped.

    mucald experiments --jobs jobs/mucald jobs/baseline_splitfed --seeds 7 8 9 --out runs

Every run leaves ``runs/<job>/seed-<n>/results.json``. A run that is finished, in this very configuration, is
not made again; one that was stopped goes on after its last complete round; one of another configuration moves
to ``runs/.replaced``. Sites draw phantoms, or with ``--home`` read the images that their
``<home>/<site>/site.json`` names. ``mucald report runs --out report`` makes a report of all runs.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mucald.command_line import Parser, at_least, command
from mucald.commands.jobs.new_job import new_job
from mucald.errors import ConfigError, InterruptedRunError, MucaldError
from mucald_studies.reporting.experiments import Experiment, plan_job
from mucald_studies.reporting.runner import run_all


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald experiments", description=__doc__)
    parser.add_argument("--jobs", type=Path, nargs="+", required=True, help="job folders")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7], help="7 by default")
    parser.add_argument("--out", type=Path, required=True, help="the folder of all runs")
    parser.add_argument("--home", type=Path, help="folder of the sites' own folders, for real images")
    parser.add_argument("--simulator", action="store_true", help="run NVFLARE's simulator; the same numbers")
    parser.add_argument("--threads", type=at_least(1), help="sites that run at once")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="values of mucald.json, for all jobs"
    )
    return parser


def changes(texts: Sequence[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` texts as a dictionary; a value that is not JSON is a text.

    Raises:
        ConfigError: a text has no value.
    """
    found = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--set {text}: write KEY=VALUE, for example training.rounds=2")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def plan(arguments: argparse.Namespace, made: Path) -> tuple[list[Experiment], int]:
    """Return all experiments, and how many jobs are wrong; each of those is said on the console.

    Args:
        arguments: the command line.
        made: a folder for job folders that are made for the sites of ``--home``.
    """
    experiments: list[Experiment] = []
    wrong = 0
    for number, job in enumerate(dict.fromkeys(path.resolve() for path in arguments.jobs)):
        try:
            source = job
            if arguments.home is not None and job.is_dir():
                source = made / str(number) / job.name
                new_job(job, arguments.home, source)
            values = changes(arguments.set)
            planned = plan_job(source, arguments.seeds, values, arguments.out, arguments.home)
            if planned[0].folder in (other.folder for other in experiments):
                raise ConfigError(f"another of these jobs is called '{planned[0].config.name}' too")
        except MucaldError as error:
            wrong += 1
            print(f"error: {job.name}: {error}", file=sys.stderr, flush=True)
        else:
            experiments += planned
    return experiments, wrong


def run(arguments: argparse.Namespace) -> int:
    """Run what is not done yet; the status is 1 if something failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as made:
        experiments, wrong = plan(arguments, Path(made))
        try:
            if experiments:
                arguments.out.mkdir(parents=True, exist_ok=True)
                failed = run_all(experiments, arguments.simulator, arguments.threads)
        except KeyboardInterrupt:
            raise InterruptedRunError("stopped; the same command goes on from here") from None
    if failed:
        print(f"{failed} failed; the same command tries them again", file=sys.stderr)
    return 1 if wrong or failed else 0


main = command(describe, run)
