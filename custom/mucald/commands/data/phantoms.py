"""Write phantoms of a task as pictures and masks, to try things without patients.

    mucald phantoms --task kvasir --out data/north
    mucald phantoms --task kvasir --scanner warm --seed 1 --out data/south

``data/north/images`` and ``data/north/masks`` then hold files of equal names, the layout ``pairs`` of
``site.json``. A mask holds the number of each pixel's class. Another seed draws other scenes, another scanner
shows the same scenes as another device would.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from mucald.command_line import FORCE, Found, Parser, add_json_option, at_least, check_free, command
from mucald.console import watched
from mucald.data.images.phantoms import PHANTOMS
from mucald.data.images.phantoms.scanner import SCANNERS
from mucald.randomness import generator


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald phantoms", description=__doc__)
    parser.add_argument("--task", choices=list(PHANTOMS), required=True, help="what they show")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--count", type=at_least(1), default=40, help="how many; 40 by default")
    parser.add_argument("--size", type=at_least(16), default=96, help="side in pixels; 96 by default")
    parser.add_argument("--scanner", choices=list(SCANNERS), default="standard", help="the device")
    parser.add_argument("--seed", type=int, default=0, help="0 by default")
    parser.add_argument("--force", **FORCE)
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Write the pictures and masks."""
    folders = [arguments.out / "images", arguments.out / "masks"]
    check_free(folders, arguments.force)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for index in watched(range(arguments.count), "phantoms"):
        rng = generator(arguments.seed, "phantom files", arguments.task, index)
        pair = SCANNERS[arguments.scanner].take(*PHANTOMS[arguments.task](rng, arguments.size), rng)
        for folder, pixels in zip(folders, pair, strict=True):
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"phantom_{index:03}.png")
    print(f"{arguments.out}: {arguments.count} phantoms of {arguments.task}, each with its mask")
    return Found({"images": folders[0], "masks": folders[1], "count": arguments.count})


main = command(describe, run)
