"""Run one job in many settings, attack every run, and draw what each is good for against what it gives away.

    mucald frontier --base jobs/mucald_fresh --out frontier --sites polyp

``--points`` names a JSON file ``{"name": {"dotted.key": value}}`` of changes to the base job, by default
``frontier/points.json`` of the studies. Every run is recorded, and lies in ``frontier/runs/<name>/seed-<n>``
with the attacks on it. Writes ``frontier/frontier.json``, ``frontier/frontier.md`` and
``frontier/figures/frontier.svg``. What is done is not done again, so the same command goes on from there.
"""

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

from mucald.command_line import Parser, at_least, command, folder
from mucald.commands import CHECKOUT
from mucald.commands.jobs.new_job import new_job
from mucald.config.schema import closest
from mucald.errors import AttackError, ConfigError, InterruptedRunError
from mucald.methods.jobs import load_job
from mucald_studies.attacks import ATTACKS, choose_attacks
from mucald_studies.attacks.harness.fitting import Budget
from mucald_studies.commands.attack import add_budget, budget_of
from mucald_studies.frontier.attacking import Attackers, attack_all
from mucald_studies.frontier.page import write_frontier
from mucald_studies.frontier.points import Point, plan_points, read_points
from mucald_studies.frontier.row import Row, row_of
from mucald_studies.reporting.runner import run_all

DEFAULT_BASE = CHECKOUT / "jobs/mucald_fresh"
DEFAULT_POINTS = Path(__file__).parents[1] / "frontier/points.json"
DEFAULT_ATTACKS = (
    "decoder.front_end",
    "decoder.pairs",
    "averaging.half",
    "averaging.all",
    "differencing.pictures",
    "mask_inference",
    "membership.latents",
    "membership.loss",
)


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald frontier", description=__doc__)
    parser.add_argument(
        "--base", type=Path, default=DEFAULT_BASE, help="the job folder to change (jobs/mucald_fresh)"
    )
    parser.add_argument("--points", type=Path, default=DEFAULT_POINTS, help="the JSON file of points")
    parser.add_argument("--only", nargs="+", default=[], metavar="POINT", help="these points only")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--job-seed", type=int, default=7, help="seed of all runs; 7 by default")
    parser.add_argument("--home", type=Path, help="folder of the sites' own folders, for real images")
    parser.add_argument(
        "--attacks",
        nargs="+",
        default=list(DEFAULT_ATTACKS),
        help=f"all, a family, or any of: {', '.join(ATTACKS)}; by default {', '.join(DEFAULT_ATTACKS)}",
    )
    parser.add_argument("--sites", nargs="+", default=[], help="attack these sites only")
    parser.add_argument(
        "--auxiliary-home",
        type=folder,
        help="folder with, for any site, a folder with a site.json that names images for the attacker",
    )
    parser.add_argument("--simulator", action="store_true", help="run NVFLARE's simulator; the same numbers")
    parser.add_argument("--threads", type=at_least(1), help="sites that run at once")
    parser.add_argument(
        "--attack-threads", type=at_least(1), help="of torch in attacks; the run's by default"
    )
    add_budget(parser)
    return parser


def _plan(arguments: argparse.Namespace, made: Path) -> list[Point]:
    base = arguments.base.resolve()
    load_job(base)  # a fault of its own is none of the points'
    if arguments.home is not None:
        new_job(base, arguments.home, made / base.name)
        base = made / base.name
    points = read_points(arguments.points, arguments.only)
    planned = plan_points(base, points, arguments.job_seed, arguments.out, arguments.home)
    known = {site: None for point in planned for site in point.experiment.data_sites}
    for site in arguments.sites:
        if site not in known:
            raise ConfigError(f"--sites: no run has a site '{site}'{closest(site, list(known))}")
    return planned


def _rows(points: list[Point], attackers: Attackers) -> list[Row]:
    """Return the rows of all points whose runs are finished and could be attacked."""
    runs = {point.name: point.experiment.finished() for point in points}
    attacked = attack_all([point for point in points if runs[point.name] is not None], attackers)
    rows = []
    for point in points:
        run = runs[point.name]
        if run is not None and point.name in attacked:
            rows.append(row_of(point, run, attacked[point.name], attackers.budget.max_steps))
    return rows


def _settings(arguments: argparse.Namespace, budget: Budget) -> dict[str, object]:
    return {
        "base": arguments.base.name,
        "seed": arguments.job_seed,
        "attacks": arguments.attacks,
        "sites": arguments.sites,
        "budget": dataclasses.asdict(budget),
    }


def run(arguments: argparse.Namespace) -> int:
    """Run and attack every point; the status is 1 if some are missing."""
    with tempfile.TemporaryDirectory() as made:
        try:
            budget = budget_of(arguments)
            attackers = Attackers(
                choose_attacks(arguments.attacks),
                arguments.sites,
                budget,
                arguments.auxiliary_home,
                arguments.attack_threads,
            )
            points = _plan(arguments, Path(made))
            arguments.out.mkdir(parents=True, exist_ok=True)
            run_all([point.experiment for point in points], arguments.simulator, arguments.threads)
            rows = _rows(points, attackers)
            if not rows:
                raise AttackError("no point could be attacked")
            written = write_frontier(rows, _settings(arguments, budget), arguments.out)
        except KeyboardInterrupt:
            raise InterruptedRunError("stopped; the same command goes on from here") from None
    print(", ".join(map(str, written)))
    if missing := len(points) - len(rows):
        print(f"{missing} of {len(points)} points are missing; the same command tries again", file=sys.stderr)
    return 1 if missing else 0


main = command(describe, run)
