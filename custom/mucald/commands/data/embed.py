"""Turn a site's images into a set of embeddings by a frozen network.

    mucald embed /data/brain --layout folders --task brain_tumour --class no_tumor=none --out b.safetensors

Layouts: ``folders`` (one for each class), ``table`` (``classes.csv`` of file and class beside the images),
``medmnist`` (its ``.npz``), ``camelyon17`` (of WILDS) and ``datalist`` (of MONAI, with a class as label). A
call that was stopped goes on where it was. The set holds labels and patients; it stays at the site.
"""

import argparse
import logging
from pathlib import Path

from mucald.command_line import Found, Parser, WrongUseError, add_json_option, at_least, command
from mucald.console import watched
from mucald.data.embeddings.backbones import known, load_backbone
from mucald.data.embeddings.making import embed_source
from mucald.data.embeddings.sets import ENDINGS, read_set
from mucald.data.embeddings.sources import SOURCES
from mucald.tasks import TASKS, get_task


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald embed", description=__doc__)
    parser.add_argument("root", type=Path, help="folder of the images, MedMNIST's file or the data list")
    parser.add_argument("--layout", choices=list(SOURCES), required=True, help="how they lie")
    parser.add_argument("--task", required=True, help="task of embeddings, such as brain_tumour")
    parser.add_argument("--out", type=Path, required=True, help=f"the set to write ({' or '.join(ENDINGS)})")
    parser.add_argument(
        "--backbone", default="efficientnet-lite0", help=f"the network: {', '.join(known())}, or timm's name"
    )
    parser.add_argument("--weights", type=Path, help="file of its weights, where it has none of its own")
    parser.add_argument("--size", type=at_least(1), help="side that images are resized to")
    parser.add_argument("--batch", type=at_least(1), default=32, help="images at once (32)")
    parser.add_argument(
        "--class",
        dest="names",
        action="append",
        default=[],
        metavar="THERE=NAME",
        help="what a class is called",
    )
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Write the set, and say how many images of each class it has."""
    if arguments.out.suffix not in ENDINGS:
        raise WrongUseError(f"--out {arguments.out} must end with {' or '.join(ENDINGS)}")
    task = get_task(arguments.task)
    if task.input != "embedding":
        known_tasks = ", ".join(name for name, one in TASKS.items() if one.input == "embedding")
        raise WrongUseError(f"--task {task.name} has no embeddings; those that have: {known_tasks}")
    if not all("=" in name for name in arguments.names):
        raise WrongUseError("--class takes THERE=NAME")
    names = dict(name.split("=", 1) for name in arguments.names)
    source = SOURCES[arguments.layout](arguments.root, task, names)
    backbone = load_backbone(arguments.backbone, arguments.weights, arguments.size)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    batches = -(-len(source.labels) // arguments.batch)
    for _ in watched(
        embed_source(source, task, backbone, arguments.out, arguments.batch), "batches", batches
    ):
        pass
    content = read_set(arguments.out)
    counts = {name: int((content.labels == label).sum()) for label, name in enumerate(task.classes)}
    print(f"{arguments.out}: {len(content)} images as {content.dimension} numbers each of {backbone.name}")
    for name, number in counts.items():
        print(f"{name}: {number}")
    return Found(
        {"set": arguments.out, "backbone": backbone.name, "dimension": content.dimension, "images": counts}
    )


main = command(describe, run)
