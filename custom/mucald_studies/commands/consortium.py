"""Deal public image sets out to eight sites of four tasks, with few images each: the real consortium.

    mucald consortium sets --home home

Three polyp sites, two of skin lesions, two of white blood cells from different laboratories, and one of CT
slices get images of their own to train and validate on. Those of one set are tested on the same images, which
no site trains on. Policies are open and noise secrets fixed: for public images only.
"""

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mucald.command_line import FORCE, Parser, at_least, check_free, command
from mucald.commands.data.site_files import KNOWN_SETS
from mucald.data.records.layouts import Record, find_records
from mucald.data.records.splits import shuffled
from mucald.data.site_file import SiteFile
from mucald.errors import ConfigError
from mucald_studies.shares import WRITTEN, write_share

# Site: folder of its set, and which of the set's cases it may have.
SITES = {
    "polyp_a": ("kvasir_seg", ""),
    "polyp_b": ("kvasir_seg", ""),
    "polyp_c": ("kvasir_seg", ""),
    "skin_a": ("ham10000", ""),
    "skin_b": ("ham10000", ""),
    "cells_a": ("wbc", "^d1_"),
    "cells_b": ("wbc", "^d2_"),
    "ct": ("Dataset501_CovidCT", ""),
}


@dataclass(frozen=True)
class Counts:
    """Images of each site: to train, to validate, and at most to test."""

    train: int
    validation: int
    test: int


def dealt(records: list[Record], sites: list[str], counts: Counts) -> dict[str, dict[str, list[Record]]]:
    """Return each site's records by split; the draw depends on the cases' names alone.

    Raises:
        ConfigError: there are too few.
    """
    order = {case: place for place, case in enumerate(shuffled({record.case for record in records}))}
    ordered = sorted(records, key=lambda record: order[record.case])
    own = counts.train + counts.validation
    rest = ordered[own * len(sites) :][: counts.test]
    if not rest:
        raise ConfigError(
            f"{', '.join(sites)}: {len(ordered)} images leave none to test on; lower --train or --validation"
        )
    found = {}
    for place, site in enumerate(sites):
        mine = ordered[own * place : own * (place + 1)]
        found[site] = {"train": mine[: counts.train], "validation": mine[counts.train :], "test": rest}
    return found


def deal(sets: Path, home: Path, counts: Counts) -> None:
    """Write every site's data list, site file and policy below ``home``; where a set is wrong, of no site.

    Raises:
        MucaldError: a set is missing or wrong, or has too few images.
    """
    choices = dict.fromkeys(SITES.values())
    # All before the first is written, or a set that is missing would leave half a consortium.
    shares = [share for choice in choices for share in _of_set(sets, *choice, counts)]
    for site, task_name, name, splits in shares:
        write_share(home / site, task_name, name, splits)


def _of_set(
    sets: Path, name: str, pattern: str, counts: Counts
) -> Iterator[tuple[str, str, str, dict[str, list[Record]]]]:
    """Yield for each site of a set its name, its task, the set, and its records by split."""
    if not (sets / name).is_dir():
        raise ConfigError(
            f"{sets} holds no {name}; it needs {', '.join(sorted({own for own, _ in SITES.values()}))}"
        )
    layout, task_name = KNOWN_SETS[name]
    site_file = SiteFile(task=task_name, root=str((sets / name).resolve()), layout=layout)
    records = [record for record in find_records(site_file) if re.search(pattern, record.case)]
    names = [site for site, choice in SITES.items() if choice == (name, pattern)]
    for site, splits in dealt(records, names, counts).items():
        whole = {split: [replace(record, split=split) for record in own] for split, own in splits.items()}
        yield site, task_name, name, whole


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald consortium", description=__doc__)
    parser.add_argument("sets", type=Path, help="folder that holds the sets")
    parser.add_argument("--home", type=Path, required=True, help="folder of the sites' folders")
    parser.add_argument("--train", type=at_least(1), default=20, help="training images of each site")
    parser.add_argument("--validation", type=at_least(1), default=8, help="validation images of each site")
    parser.add_argument("--test", type=at_least(1), default=40, help="most test images of each set")
    parser.add_argument("--force", **FORCE)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Deal the sets out and say what each site has."""
    check_free([arguments.home / site / name for site in SITES for name in WRITTEN], arguments.force)
    deal(arguments.sets, arguments.home, Counts(arguments.train, arguments.validation, arguments.test))
    return 0


main = command(describe, run)
