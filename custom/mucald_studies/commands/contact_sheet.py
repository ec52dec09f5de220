"""Draw a few phantoms of each task of the shipped job, beside themselves with their mask's outlines on top.

    mucald contact-sheet --out docs/images/phantoms.png --force

With ``--scanners dim old`` each task has a row per device.
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mucald.command_line import FORCE, Parser, WrongUseError, at_least, check_free, command
from mucald.data.images.phantoms import PHANTOMS
from mucald.data.images.phantoms.scanner import SCANNERS
from mucald.randomness import generator
from mucald.tasks import Task, get_task
from mucald_studies.reporting.pictures import OUTLINES, outlined

TASKS = ("blastocyst", "ham10k", "fetal", "mosmed", "kvasir")
GAP, TITLE_HEIGHT = 6, 26


def task_row(task: Task, scanner: str, count: int, size: int, seed: int) -> Image.Image:
    """Return one row of the sheet: the title, and ``count`` phantoms each beside its outlined twin."""
    row = Image.new("RGB", (2 * count * (size + GAP) + GAP, size + TITLE_HEIGHT + GAP), "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(size=15)
    title = task.title if scanner == "standard" else f"{task.title}, {scanner}"
    draw.text((GAP, 5), title, fill="black", font=font)
    place = GAP + draw.textlength(title, font=font) + 18
    for name, colour in zip(task.classes[1:], OUTLINES, strict=False):
        draw.rectangle((place, 9, place + 10, 19), fill=colour)
        draw.text((place + 15, 5), name, fill="grey", font=font)
        place += 30 + draw.textlength(name, font=font)
    for index in range(count):
        rng = generator(seed, "contact sheet", task.name, index)
        image, mask = SCANNERS[scanner].take(*PHANTOMS[task.name](rng, size), rng)
        for twin, picture in enumerate((image, outlined(image, mask))):
            row.paste(Image.fromarray(picture), (GAP + (2 * index + twin) * (size + GAP), TITLE_HEIGHT))
    return row


def with_palette(sheet: Image.Image) -> Image.Image:
    """Reduce to 256 colours, for a third of the file; the outlines keep theirs, though they are rare."""
    common = sheet.quantize(256 - len(OUTLINES)).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(
        common[: 3 * (256 - len(OUTLINES))] + [value for colour in OUTLINES for value in colour]
    )
    return sheet.quantize(palette=palette, dither=Image.Dither.NONE)


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald contact-sheet", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the PNG file to write")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=list(PHANTOMS), help="of which tasks")
    parser.add_argument("--scanners", nargs="+", default=("standard",), choices=SCANNERS, help="devices")
    parser.add_argument("--count", type=at_least(1), default=4, help="phantoms per task")
    parser.add_argument("--size", type=at_least(16), default=112, help="side of each in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", **FORCE)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Write the sheet, and say how large it is."""
    if arguments.out.suffix.lower() != ".png":
        raise WrongUseError(f"--out {arguments.out}: the sheet is a PNG file; call it so")
    check_free([arguments.out], arguments.force)

    count, size, seed = arguments.count, arguments.size, arguments.seed
    rows = [
        task_row(get_task(task), scanner, count, size, seed)
        for task in arguments.tasks
        for scanner in arguments.scanners
    ]
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    for index, row in enumerate(rows):
        sheet.paste(row, (0, index * row.height))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with_palette(sheet).save(arguments.out, optimize=True)
    print(f"{arguments.out}: {sheet.width} x {sheet.height}, {arguments.out.stat().st_size // 1000} kB")
    return 0


main = command(describe, run)
