"""Halve a public image set: one half for a site, the other, in eight orientations, for who attacks it.

    mucald hold-out sets/kvasir_seg --task kvasir --site kvasir_seg --out halves

The set has the layout "pairs": folders ``images`` and ``masks`` with files of equal names. Every second image
goes to the attacker, mirrored and turned in all eight ways, so that a small set still gives hundreds of
auxiliary images. ``halves/home`` then is the home of the site (``--home``), with an open policy, since
recording needs one, and ``halves/auxiliary`` that of the attacker, ``--auxiliary-home`` of ``mucald attack``.
"""

import argparse
from pathlib import Path

from PIL import Image

from mucald.command_line import FORCE, Parser, check_free, command
from mucald.commands.data.site_files import public_secret, site_texts, write_texts
from mucald.data.records.layouts import find_records
from mucald.data.site_file import SiteFile
from mucald.tasks import get_task

TURNS = (None, *Image.Transpose)
"""The eight orientations of a square."""


def halve(of_set: Path, task: str, site: str, out: Path) -> tuple[int, int]:
    """Write both halves below ``out``; return how many images the site and the attacker have.

    Raises:
        DataError: the set is no folder of pairs, or a file is no picture.
    """
    records = find_records(SiteFile(task=task, root=str(of_set.resolve()), layout="pairs"))
    counts = {"site": 0, "attacker": 0}
    for number, record in enumerate(records):
        half, turns = ("attacker", TURNS) if number % 2 else ("site", TURNS[:1])
        for turn, way in enumerate(turns):
            counts[half] += 1
            for kind, path in (("images", record.images[0]), ("masks", record.mask)):
                _write(path, way, out / half / kind / f"{record.case}_{turn}.png")
    for half, home in (("site", "home"), ("attacker", "auxiliary")):
        content = {"task": task, "root": str((out / half).resolve()), "layout": "pairs"}
        # The orientations of an image are one patient.
        content |= {"case_pattern": r"^(.+)_\d$", "noise_secret": public_secret(of_set.name)}
        write_texts(site_texts(out / home / site, content, open_policy=True))
    return counts["site"], counts["attacker"]


def _write(path: Path, way: Image.Transpose | None, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(path) as picture:
        (picture if way is None else picture.transpose(way)).save(to)


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald hold-out", description=__doc__)
    parser.add_argument("of_set", metavar="set", type=Path, help="folder with the folders images and masks")
    parser.add_argument("--task", required=True, help="its task")
    parser.add_argument("--site", required=True, help="name of the site")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--force", **FORCE)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Halve the set and say how many images each half has."""
    get_task(arguments.task)
    names = ("home", "auxiliary", "site", "attacker")
    check_free([arguments.out / name for name in names], arguments.force)
    own, others = halve(arguments.of_set, arguments.task, arguments.site, arguments.out)
    print(f"{arguments.out}: {own} images for the site '{arguments.site}', {others} for the attacker")
    return 0


main = command(describe, run)
