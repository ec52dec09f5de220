"""Write phantoms of a task as files, to try things without patients.

    mucald phantoms --task kvasir --out data/north
    mucald phantoms --task kvasir --scanner warm --seed 1 --out data/south
    mucald phantoms --task heart --count 12 --out data/cardiac

Of a task of images ``data/north/images`` and ``data/north/masks`` then hold files of equal names, the layout
``pairs`` of ``site.json``; of a task of volumes ``data/cardiac`` is a set in nnU-Net's raw layout, which is
``nnunet``. A mask holds the number of each pixel's class. Another seed draws other scenes, another scanner
shows the same scenes as another device would.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mucald.command_line import (
    FORCE,
    Found,
    Parser,
    WrongUseError,
    add_json_option,
    at_least,
    check_free,
    command,
)
from mucald.console import watched
from mucald.data.images.phantoms import PHANTOMS
from mucald.data.images.phantoms.scanner import SCANNERS
from mucald.data.volumes import phantoms as volumes
from mucald.data.volumes.phantoms.device import device_of
from mucald.randomness import generator
from mucald.tasks import Task, get_task

SIDE, LEAST_SIDE = 96, 16
SPACING = (6.0, 6.0, 8.0)
"""Of volumes, in mm: that of a coarse scan of a trunk."""


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald phantoms", description=__doc__)
    tasks = [*PHANTOMS, *volumes.PHANTOMS]
    parser.add_argument("--task", choices=tasks, required=True, help="what they show")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--count", type=at_least(1), default=40, help="how many; 40 by default")
    parser.add_argument("--size", type=at_least(LEAST_SIDE), help="of images: side in pixels; 96 by default")
    parser.add_argument("--scanner", choices=list(SCANNERS), help="of images: the device")
    parser.add_argument("--seed", type=int, default=0, help="0 by default")
    parser.add_argument("--force", **FORCE)
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Write the phantoms."""
    task = get_task(arguments.task)
    if task.input == "volume" and (arguments.size, arguments.scanner) != (None, None):
        raise WrongUseError(f"--size and --scanner are for images, and {task.name} has volumes")
    names = ("imagesTr", "labelsTr", "dataset.json") if task.input == "volume" else ("images", "masks")
    check_free([arguments.out / name for name in names], arguments.force)
    if task.input == "volume":
        _write_volumes(task, arguments.out, arguments.count, arguments.seed)
        print(f"{arguments.out}: {arguments.count} volumes of {task.name}, in nnU-Net's raw layout")
        return Found({"root": arguments.out, "layout": "nnunet", "count": arguments.count})
    folders = [arguments.out / name for name in names]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    take, size = SCANNERS[arguments.scanner or "standard"].take, arguments.size or SIDE
    for index in watched(range(arguments.count), "phantoms"):
        rng = generator(arguments.seed, "phantom files", arguments.task, index)
        pair = take(*PHANTOMS[arguments.task](rng, size), rng)
        for folder, pixels in zip(folders, pair, strict=True):
            Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"phantom_{index:03}.png")
    print(f"{arguments.out}: {arguments.count} phantoms of {arguments.task}, each with its mask")
    return Found({"images": folders[0], "masks": folders[1], "count": arguments.count})


def _write_volumes(task: Task, out: Path, count: int, seed: int) -> None:
    device, classes = device_of(seed, "phantom files", task.modality), {}
    for index in watched(range(count), "phantoms"):
        rng, label = generator(seed, "phantom files", task.name, index), index % task.n_classes
        scene = volumes.PHANTOMS[task.name].draw(rng, volumes.SHAPE, label)
        name = f"phantom_{index:03}"
        for channel, values in enumerate(device.take(scene.tissue, scene.table, rng)):
            # Hounsfield units as they are, MR in a thousand steps, as scanners write them.
            stored = np.rint(values if task.modality == "CT" else 1000 * values).astype(np.int16)
            _save(out / "imagesTr" / f"{name}_{channel:04}.nii.gz", stored)
        if task.target == "mask":
            _save(out / "labelsTr" / f"{name}.nii.gz", scene.labels)
        classes[name] = task.classes[label]
    content: dict[str, Any] = {
        "channel_names": {str(channel): task.modality for channel in range(task.channels)},
        "labels": {name: label for label, name in enumerate(task.classes)},
        "numTraining": count,
        "file_ending": ".nii.gz",
    }
    content |= {"classes": classes} if task.target == "class" else {}
    (out / "dataset.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _save(path: Path, array: NDArray[Any]) -> None:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([*SPACING, 1.0])), path)


main = command(describe, run)
