"""Deal the cardiac MR set out to three sites that segment and one that classifies, with few patients each.

    mucald cardiac sets --home home

The sites that segment have patients of their own to train and validate on, and are tested on the same ones.
The site that classifies has the others, and is tested on those very patients too: no site trains on them.
Policies are open and noise secrets fixed: for public images only.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mucald.command_line import FORCE, Parser, at_least, check_free, command
from mucald.data.records.layouts import Record, find_records
from mucald.data.records.splits import shuffled
from mucald.data.site_file import SiteFile
from mucald.errors import ConfigError
from mucald_studies.shares import WRITTEN, write_share

SET = "Dataset502_CardiacMR"
SEGMENTING = ("heart_a", "heart_b", "heart_c")
CLASSIFYING = "pathology"

Splits = dict[str, list[Record]]


def dealt(sets: Path, train: int, validation: int, test: int) -> dict[str, tuple[str, Splits]]:
    """Return task and records by split of each site; the draw depends on the cases' names alone.

    Args:
        sets: folder that holds the set.
        train: training patients of each site that segments.
        validation: its validation patients, and those of the site that classifies.
        test: of all sites.

    Raises:
        ConfigError: the set is missing or too small.
    """
    root = sets / SET
    if not root.is_dir():
        raise ConfigError(f"{sets} holds no {SET}")
    of_task = {
        task: {
            record.case: record
            for record in find_records(SiteFile(task=task, root=str(root.resolve()), layout="nnunet"))
        }
        for task in ("heart", "heart_pathology")
    }
    cases, own = shuffled(of_task["heart"]), train + validation
    tested, left = cases[:test], cases[test:]
    rest = left[own * len(SEGMENTING) :]
    if len(tested) < test or len(rest) <= validation:
        raise ConfigError(f"{root}: {len(cases)} patients are too few; lower --train, --validation or --test")
    found = {}
    for place, site in enumerate(SEGMENTING):
        mine = left[own * place : own * (place + 1)]
        found[site] = ("heart", {"train": mine[:train], "validation": mine[train:], "test": tested})
    found[CLASSIFYING] = (
        "heart_pathology",
        {"train": rest[validation:], "validation": rest[:validation], "test": tested},
    )
    return {
        site: (task, {name: _placed(of_task[task], own, name) for name, own in splits.items()})
        for site, (task, splits) in found.items()
    }


def _placed(records: Mapping[str, Record], cases: Sequence[str], split: str) -> list[Record]:
    return [replace(records[case], split=split) for case in cases]


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald cardiac", description=__doc__)
    parser.add_argument("sets", type=Path, help=f"folder that holds {SET}")
    parser.add_argument("--home", type=Path, required=True, help="folder of the sites' folders")
    parser.add_argument("--train", type=at_least(1), default=9, help="training patients of each (9)")
    parser.add_argument("--validation", type=at_least(1), default=3, help="validation patients of each (3)")
    parser.add_argument("--test", type=at_least(1), default=12, help="test patients of all (12)")
    parser.add_argument("--force", **FORCE)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Deal the set out and say what each site has."""
    folders = [arguments.home / site for site in (*SEGMENTING, CLASSIFYING)]
    check_free([folder / name for folder in folders for name in WRITTEN], arguments.force)
    shares = dealt(arguments.sets, arguments.train, arguments.validation, arguments.test)
    for site, (task, splits) in shares.items():
        write_share(arguments.home / site, task, SET, splits)
    return 0


main = command(describe, run)
