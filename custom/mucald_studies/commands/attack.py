"""Attack a run and tell what it gave away.

    mucald attack workspace --attacks all --out attacks

A run of split learning must have been made with ``runtime.record`` set to true. Where weights travel,
membership is inferred from the network that the server can put together of them. Writes
``attacks/attacks.json`` and ``attacks/pictures.png``: originals, and what each attack made of them.
docs/attacks.md tells what each attacker knows. The sites' own folders are found as in the run
($MUCALD_HOME, or beside the workspace).
"""

import argparse
import sys
from pathlib import Path

import torch

from mucald.command_line import FORCE, Found, Parser, add_json_option, at_least, check_free, command, folder
from mucald.console import watched
from mucald.errors import AttackError, MucaldError
from mucald.home import beside, participant_home
from mucald_studies.attacks import ATTACKS, choose_attacks
from mucald_studies.attacks.harness.evaluation import Attacked, Evaluation
from mucald_studies.attacks.harness.fitting import Budget
from mucald_studies.attacks.harness.result import results_table, write_results
from mucald_studies.attacks.harness.run import Run, read_run
from mucald_studies.attacks.harness.sheet import write_sheet

RESULTS, PICTURES = "attacks.json", "pictures.png"
_BUDGET = {
    "--seed": "all of the attacker's draws follow from it",
    "--auxiliary": "auxiliary images",
    "--batch": "images per step",
    "--max-steps": "steps of a training, flat or not",
    "--patience": "looks without an improvement before the rate is lowered or training ends",
    "--rate": "learning rate at the start",
    "--width": "channels of the attacker's networks",
    "--leaked": "share of the training images in the attacker's hands",
}


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald attack", description=__doc__)
    parser.add_argument("run_folder", type=Path, help="the run's workspace")
    parser.add_argument(
        "--attacks", nargs="+", default=["all"], help=f"all, a family, or any of: {', '.join(ATTACKS)}"
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--sites", nargs="+", help="attack these sites only")
    parser.add_argument("--home", type=folder, help="folder with each site's own folder")
    parser.add_argument(
        "--auxiliary-home",
        type=folder,
        help="folder with, for any site, a folder with a site.json that names images for the attacker",
    )
    parser.add_argument("--threads", type=at_least(1), help="of torch; the run's by default")
    parser.add_argument("--force", **FORCE)
    add_budget(parser)
    add_json_option(parser)
    return parser


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Add an option for all that an attacker may spend."""
    defaults = Budget()
    for option, meaning in _BUDGET.items():
        value = getattr(defaults, _field(option))
        parser.add_argument(option, type=type(value), default=value, help=f"{meaning}; {value} by default")


def budget_of(arguments: argparse.Namespace) -> Budget:
    """Return what the options of :func:`add_budget` say.

    Raises:
        AttackError: a value is impossible.
    """
    return Budget(**{_field(option): getattr(arguments, _field(option)) for option in _BUDGET})


def _field(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _homes(attacked: Run, arguments: argparse.Namespace) -> dict[str, Path]:
    workspace = arguments.run_folder.resolve()
    return {
        site: arguments.home / site if arguments.home else participant_home(beside(workspace, site), site)
        for site in attacked.sites
    }


def _attack(arguments: argparse.Namespace) -> list[Attacked]:
    attacks = choose_attacks(arguments.attacks)
    check_free([arguments.out / name for name in (RESULTS, PICTURES)], arguments.force)
    attacked = read_run(arguments.run_folder)
    budget = budget_of(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads or attacked.config.runtime.threads)
    own = arguments.auxiliary_home
    auxiliary = {site: own / site for site in attacked.sites if own and (own / site).exists()}
    evaluation = Evaluation(attacked, _homes(attacked, arguments), auxiliary)
    found = []
    jobs = evaluation.jobs(attacks, arguments.sites or attacked.sites)
    for attack, site in watched(list(jobs), "attacks"):
        try:
            found.append(evaluation.attack(attack, site, budget))
        except MucaldError as error:
            print(f"{attack.name} on {site} is left out: {error}", file=sys.stderr)
            continue
        # After every attack, so that a stop loses only the one under way.
        write_results(arguments.out / RESULTS, [one.result for one in found])
        print(f"{attack.name} on {site}: {found[-1].result.seconds:.0f} s", file=sys.stderr, flush=True)
    return found


def run(arguments: argparse.Namespace) -> Found:
    """Make the attacks, and print their table."""
    found = _attack(arguments)
    if not found:
        raise AttackError("no attack could be made")
    results = [attacked.result for attacked in found]
    written = [arguments.out / RESULTS]
    if write_sheet(arguments.out / PICTURES, found):
        written.append(arguments.out / PICTURES)
    print(results_table(results))
    print(", ".join(map(str, written)))
    return Found([result.to_dict() for result in results])


main = command(describe, run)
