"""Turn a site's images into a MONAI data list in whose splits no patient occurs twice.

    mucald prepare home/endoscopy/site.json --out home/endoscopy/datalist.json

Of volumes it prints the plan that they need, what a job must say of them, and with ``--job`` whether a job
says it; a data list is written where ``--out`` asks for one.

    mucald prepare home/cardiac/site.json --job jobs/fedcmt

Reads any layout that ``site.json`` can name. The patient is the group of a regular expression on the file's
name (``case_pattern`` of ``site.json``, or ``--case-pattern``), or a column of a table (``--cases``). The
list holds file names and patients; it stays at the site.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from mucald.command_line import (
    FORCE,
    Found,
    Parser,
    WrongUseError,
    add_json_option,
    check_free,
    command,
    file_in,
)
from mucald.commands.data.volumes import plan_volumes
from mucald.console import watched
from mucald.data.checked import SeenImages
from mucald.data.images.readers import read_set
from mucald.data.records.datalist import build_datalist
from mucald.data.records.layouts import ImageSet, find_set
from mucald.data.records.patients import read_patients, with_patients
from mucald.data.records.splits import split_records
from mucald.data.site_file import SITE_FILE, SiteFile, read_site_file
from mucald.data.volumes.reading import values_of
from mucald.errors import DataError, WorkspaceError
from mucald.tasks import get_task


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald prepare", description=__doc__)
    parser.add_argument("site_file", type=file_in(SITE_FILE), help="the site's site.json")
    parser.add_argument("--out", type=Path, help="the data list to write; required, but of volumes")
    parser.add_argument("--job", type=Path, help="of volumes: the job that must fit them")
    parser.add_argument(
        "--propose",
        action="store_true",
        help="with --job: write the plan into it, for others to compare",
    )
    parser.add_argument(
        "--divisible-by",
        type=int,
        metavar="K",
        help="of volumes: what sides of a patch are multiples of (8, or what the job's network needs)",
    )
    parser.add_argument("--case-pattern", help="regular expression whose first group names the patient")
    parser.add_argument("--cases", type=Path, help="CSV table that names every image's patient")
    parser.add_argument("--file-column", help="column of the table with the image's name (file)")
    parser.add_argument("--case-column", help="column of the table with the patient (patient)")
    parser.add_argument("--force", **FORCE)
    add_json_option(parser)
    return parser


def _check(arguments: argparse.Namespace) -> None:
    if arguments.cases is not None and arguments.case_pattern is not None:
        raise WrongUseError("give either --cases or --case-pattern")
    if arguments.cases is None and (arguments.file_column or arguments.case_column):
        raise WrongUseError("--file-column and --case-column go with --cases")
    if arguments.propose and arguments.job is None:
        raise WrongUseError("--propose goes with --job")
    if arguments.out is None:
        return
    if arguments.out.resolve() in {path.resolve() for path in (arguments.site_file, arguments.cases) if path}:
        raise WrongUseError(f"--out {arguments.out} is read, so it cannot be written; give another file")
    if arguments.out.suffix.lower() != ".json":
        raise WrongUseError(f"--out {arguments.out} must end with .json, as a data list does")


def set_of(site_file: SiteFile, arguments: argparse.Namespace) -> ImageSet:
    """Return the site's images with their patients.

    Raises:
        DataError: see :func:`find_set`, :func:`read_patients` and :func:`with_patients`.
    """
    if arguments.cases is not None:
        found = find_set(replace(site_file, case_pattern=None))
        patients = read_patients(
            arguments.cases, arguments.file_column or "file", arguments.case_column or "patient"
        )
        records, unused = with_patients(found.records, patients)
        return ImageSet(records, found.unused + unused)
    if arguments.case_pattern is not None:
        try:
            site_file = replace(site_file, case_pattern=arguments.case_pattern)
        except ValueError as error:
            raise DataError(f"--case-pattern: {error}") from None
    return find_set(site_file)


def _check_unread(out: Path, site_file: SiteFile, found: ImageSet) -> None:
    """Check that a list replaces nothing that its own set consists of.

    Raises:
        WorkspaceError: it would.
    """
    files = [file for record in found.records for file in (*record.images, record.mask)]
    files += [Path(site_file.root) / "dataset.json"] if site_file.root else [Path(site_file.datalist or "")]
    if out.resolve() in {file.resolve() for file in files}:
        raise WorkspaceError(f"--out {out} is read, so it cannot be written; give another file")


def run(arguments: argparse.Namespace) -> Found:
    """Write the data list, and say how many patients and images each split has."""
    _check(arguments)
    site_file = read_site_file(arguments.site_file)
    if get_task(site_file.task).input == "volume":
        planned = plan_volumes(site_file, arguments.job, arguments.divisible_by, arguments.propose)
        if arguments.out is None or planned.status:
            return planned
    elif arguments.job is not None or arguments.divisible_by is not None:
        raise WrongUseError(f"--job and --divisible-by are for volumes, and {site_file.task} has images")
    if arguments.out is None:
        raise WrongUseError("--out is required: the data list to write")
    check_free([arguments.out], arguments.force)
    found = set_of(site_file, arguments)
    splits = split_records(found.records, site_file)
    if get_task(site_file.task).input == "image":
        samples = read_set(splits, get_task(site_file.task), site_file.value_map, SeenImages())
        for _ in watched(samples, "images", sum(map(len, splits.values()))):
            pass  # every image and mask is read as training does, and no copy lies in two splits
    _check_unread(arguments.out, site_file, found)
    content = build_datalist(splits, get_task(site_file.task), arguments.out.parent)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    arguments.out.chmod(0o600)
    sizes = {
        name: {"patients": len({record.case for record in chosen}), "images": len(chosen)}
        for name, chosen in splits.items()
    }
    for name, size in sizes.items():
        print(f"{name}: {size['patients']} patients, {size['images']} images")
    for words in found.unused:
        print(words)
    if len({record.case for record in found.records}) == len(found.records):
        print("every image is a patient of its own; if patients have several, name them (--help)")
    print(f'{arguments.out}; in site.json put "datalist" in place of "root", "layout" and "case_pattern"')
    regions = values_of(site_file, get_task(site_file.task))
    if regions and not site_file.mask_values:
        mapped = {str(stored): label for stored, label in sorted(regions.items())}
        print(f'and "mask_values": {json.dumps(mapped)}, for a list tells no regions')
    return Found({"datalist": arguments.out, "splits": sizes, "unused": found.unused})


main = command(describe, run)
