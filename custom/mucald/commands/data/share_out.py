"""Share one set of embeddings out to several sites, for experiments; no patient is at two.

    mucald share-out brain.safetensors --task brain_tumour --way dirichlet --sites 10 --alpha 0.3 --out home

Ways: ``iid``, ``dirichlet`` (by class), ``shards`` (few classes each) and ``metadata`` (such as the hospital,
``--by``). Each site gets a folder with its set and a ``site.json``; the same arguments give the same sites.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from mucald.command_line import FORCE, Found, Parser, add_json_option, at_least, check_free, command
from mucald.data.embeddings.loader import LAYOUT
from mucald.data.embeddings.sets import read_set, write_set
from mucald.data.embeddings.sharing import WAYS, Sharing, shared_out
from mucald.data.site_file import SITE_FILE
from mucald.errors import DataError, WorkspaceError
from mucald.tasks import get_task

SET_FILE = "embeddings.safetensors"


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser, usual = Parser(prog="mucald share-out", description=__doc__), Sharing()
    parser.add_argument("set", type=Path, help="the set of embeddings")
    parser.add_argument("--task", required=True, help="task of the set")
    parser.add_argument(
        "--way", choices=list(WAYS), default="dirichlet", help="how it is shared out (dirichlet)"
    )
    parser.add_argument("--sites", type=at_least(2), default=usual.sites, help="number of sites (10)")
    parser.add_argument("--alpha", type=float, default=usual.alpha, help="of dirichlet (0.3)")
    parser.add_argument("--shards", type=at_least(1), default=usual.shards, help="of each site (2)")
    parser.add_argument("--by", default="", help="name of the metadata")
    parser.add_argument("--keep", type=float, default=usual.keep, help="share of each class that is used (1)")
    parser.add_argument("--seed", type=int, default=usual.seed, help="decides who gets what (7)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the sites' folders")
    parser.add_argument("--force", **FORCE)
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Write the sites, and say what each has."""
    task, content = get_task(arguments.task), read_set(arguments.set)
    if content.header.classes != task.classes:
        raise DataError(
            f"{arguments.set}: its classes are {', '.join(content.header.classes)}, those of task "
            f"{task.name} {', '.join(task.classes)}; give the task that it was embedded for"
        )
    sharing = Sharing(
        arguments.sites, arguments.alpha, arguments.shards, arguments.by, arguments.keep, arguments.seed
    )
    rows = shared_out(content, arguments.way, sharing)
    places = {f"site_{number:02d}": own for number, own in enumerate(rows, 1)}
    check_free([arguments.out / site / SET_FILE for site in places], arguments.force)
    _check_no_others(arguments.out, list(places))
    counts = {}
    for site, own in places.items():
        chosen, folder = content.chosen(own), arguments.out / site
        write_set(folder / SET_FILE, chosen)
        site_file = {"task": task.name, "root": SET_FILE, "layout": LAYOUT}
        (folder / SITE_FILE).write_text(json.dumps(site_file, indent=1) + "\n", encoding="utf-8")
        counts[site] = {name: int((chosen.labels == n).sum()) for n, name in enumerate(task.classes)}
        where = ""
        if arguments.way == "metadata":
            where = f" ({arguments.by} {chosen.header.groups[arguments.by][0]})"
        print(f"{site}{where}: {', '.join(f'{number} {name}' for name, number in counts[site].items())}")
    return Found({"sites": counts, "folder": arguments.out})


def _check_no_others(folder: Path, sites: Sequence[str]) -> None:
    """Refuse a folder with sites of an earlier call, whose patients are now at other sites."""
    others = [path.parent for path in sorted(folder.glob(f"*/{SET_FILE}")) if path.parent.name not in sites]
    if others:
        raise WorkspaceError(
            f"{', '.join(map(str, others))}: of an earlier call; patients would be at two sites. Delete what "
            "is there, or give another place"
        )


main = command(describe, run)
