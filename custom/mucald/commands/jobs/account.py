"""Print what a job lets leave a site, and what that can tell at most.

    mucald account jobs/mucald
    mucald account jobs/mucald --images-per-case 20

The second is for patients with several images, such as the slices of a volume. Nothing is run: all follows
from the configuration.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from mucald.command_line import Found, Parser, add_json_option, at_least, command
from mucald.methods import family_of
from mucald.methods.jobs import load_job
from mucald.privacy.disclosure import Disclosure, account, shown
from mucald.privacy.gaussian import DELTA, Bound
from mucald.privacy.policy import OPEN

HEADER = ("what leaves", "how often", "noise", "error floor", "μ", f"ε at δ = {DELTA:g}")
NONE = "no bound"


def table(disclosures: Sequence[Disclosure]) -> str:
    """Return a Markdown table: a row for each disclosure, or for each data split that it has a bound for."""
    rows: list[tuple[str, ...]] = [HEADER, ("---", "---", "---", "---:", "---:", "---:")]
    rows += [row for disclosure in disclosures for row in _rows(disclosure)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def _rows(disclosure: Disclosure) -> Iterator[tuple[str, ...]]:
    if not disclosure.bounds:
        yield disclosure.kind, disclosure.often, disclosure.noise, NONE, NONE, NONE
    for split, bound in disclosure.bounds.items():
        often = f"{bound.releases} × per image"
        yield f"{disclosure.kind}, {split}", often, disclosure.noise, *_numbers(bound)


def _numbers(bound: Bound) -> Iterator[str]:
    for number in (bound.error_floor, bound.mu, bound.epsilon):
        yield NONE if number is None else f"{number:.3g}"


def facts(disclosures: Sequence[Disclosure]) -> str:
    """Return what a policy can limit of each disclosure, a line for each that has such facts."""
    lines = []
    for disclosure in disclosures:
        if disclosure.facts:
            known = (f"{name} {shown(fact)}" for name, fact in disclosure.facts.items())
            lines.append(f"- {disclosure.kind}: {', '.join(known)}")
    return "\n".join(lines)


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald account", description=__doc__)
    parser.add_argument("job", type=Path, help="a job folder, for example jobs/mucald")
    parser.add_argument("--images-per-case", type=at_least(1), default=1, help="most images of a patient; 1")
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Print what leaves a site, and what it can tell at most."""
    config, _ = load_job(arguments.job)
    disclosures = family_of(config.method).disclosures(config, OPEN, arguments.images_per_case)
    print(f"{config.name}, images per case: {arguments.images_per_case}\n\n{table(disclosures)}\n")
    if limited := facts(disclosures):
        print(f"What a policy can limit:\n\n{limited}\n")
    value = account(disclosures, arguments.images_per_case)
    print("\n".join(value["meaning"]))
    return Found(value)


main = command(describe, run)
