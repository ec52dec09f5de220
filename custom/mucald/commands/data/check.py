"""Report on a site's images before it trains: what each file is taken for, classes, copies, faults.

    mucald check home/endoscopy/site.json --out check

Prints a summary and keeps a fingerprint of what it read in ``checked.json`` beside the site file, which runs
compare. ``--out`` gets ``files.csv``, a row per image, and ``data.html``, the summary with pictures, which
there are of images alone. They hold file names, patients and images: they stay at the site. The exit
status is 1 if something must be mended.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from mucald.command_line import FORCE, Found, Parser, add_json_option, check_free, command, file_in
from mucald.commands import studies
from mucald.data.checked import write_check
from mucald.data.embeddings.survey import EmbeddingSurvey, survey_embeddings
from mucald.data.images.summary import MOST_LISTED, summaries, write_files
from mucald.data.images.survey import Survey, survey
from mucald.data.site_file import SITE_FILE, SiteFile, read_site_file
from mucald.data.volumes.survey import VolumeSurvey, survey_volumes
from mucald.methods import measures_of
from mucald.tasks import get_task

PAGE = "data.html"
FILES = "files.csv"

Surveyed = Survey | VolumeSurvey | EmbeddingSurvey
_CALLED = {Survey: "Images", VolumeSurvey: "Volumes", EmbeddingSurvey: "Embeddings"}
_READ = "None: every image and mask can be read, and no copy lies in two splits."
_NO_FAULT = {
    Survey: _READ,
    VolumeSurvey: _READ,
    EmbeddingSurvey: "None: the set can be read, and no patient is in two splits.",
}


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald check", description=__doc__)
    parser.add_argument("site_file", type=file_in(SITE_FILE), help="the site's site.json")
    parser.add_argument("--out", type=Path, help="the folder to write the table of files and the page into")
    parser.add_argument("--force", **FORCE)
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Look at the images, say what was found, and keep the fingerprint of a set without faults."""
    site_file = read_site_file(arguments.site_file)
    if arguments.out is not None:
        check_free([arguments.out / name for name in (FILES, PAGE)], arguments.force)
        arguments.out.mkdir(parents=True, exist_ok=True)
    found = _look(site_file)
    print(report(found))
    written = [] if arguments.out is None else write_out(found, arguments.out)
    for path in written:
        print(path)
    # A set of embeddings tells by itself whose images it was made of.
    if not found.faults and not isinstance(found, EmbeddingSurvey):
        keep(found, arguments.site_file.parent)
    value = {
        "task": found.task.name,
        "images": _counts(found),
        "faults": found.faults,
        "remarks": found.remarks,
        "files": written,
    }
    return Found(value, status=1 if found.faults else 0)


def _look(site_file: SiteFile) -> Surveyed:
    match get_task(site_file.task).input:
        case "volume":
            return survey_volumes(site_file)
        case "embedding":
            return survey_embeddings(site_file)
    return survey(site_file, measures_of(site_file.task))


def _counts(found: Surveyed) -> dict[str, int]:
    if isinstance(found, EmbeddingSurvey):
        return {split: len(rows) for split, rows in found.rows.items()}
    return dict(Counter(image.record.split for image in found.images))


def report(found: Surveyed) -> str:
    """Return the summary, printable whatever characters names hold."""
    faults = found.faults[:MOST_LISTED]
    if len(found.faults) > MOST_LISTED:
        faults.append(f"and {len(found.faults) - MOST_LISTED} more")
    if not faults:
        faults = [_NO_FAULT[type(found)]]
    parts = [f"{_CALLED[type(found)]} of task {found.task.name}", "\n  ".join(("Faults", *faults))]
    if found.remarks:
        parts.append("\n  ".join(("Remarks", *found.remarks)))
    tables = summaries(found) if isinstance(found, Survey) else found.tables()
    text = "\n\n".join((*parts, *map(str, tables)))
    return text.encode(errors="backslashreplace").decode()


def write_out(found: Surveyed, folder: Path) -> list[Path]:
    """Write the table of files and, of pictures and where the studies are installed, the page.

    Returns what was written.
    """
    written = [folder / FILES]
    written[0].touch(mode=0o600)
    if not isinstance(found, Survey):
        found.write_files(written[0])
        return written
    write_files(found, written[0])
    page_of = studies("reporting.data_page")
    if page_of is None:
        print(f"no {PAGE}: it needs the studies; pip install -e custom/mucald_studies", file=sys.stderr)
        return written
    page = folder / PAGE
    page.touch(mode=0o600)
    page.write_text(page_of.data_document(found).html(), encoding="utf-8", errors="backslashreplace")
    return [*written, page]


def keep(found: Survey | VolumeSurvey, home: Path) -> None:
    """Keep the fingerprint where runs look for it; a folder that cannot be written is told, and no fault."""
    try:
        fingerprint = found.seen.fingerprint(found.task.name)
        path = write_check(home, fingerprint, [image.record.split for image in found.images])
    except OSError as error:
        print(f"runs cannot compare: {home} cannot be written ({error.strerror})", file=sys.stderr)
        return
    print(f"\n{path}: runs compare their images with this check")


main = command(describe, run)
