"""Give the sites of a group a key with which they seal what the server must not read.

    mucald group-key make kvasir --kit kit --for endo.crt --for gastro.crt --out kvasir.letter
    mucald group-key take kvasir.letter --kit kit --from polyp

One site makes the key, with ``startup/client.crt`` of the kit of every other site of the group; the letter
may go any way, since only they can open it. Each of them takes it, and says from whom it expects it. The key
lies in the site's own folder (mode 600); with ``--force`` a new one replaces it.
"""

import argparse
from pathlib import Path

from mucald.command_line import FORCE, Parser, check_free, command
from mucald.deploy.group_keys import make_key, take_key
from mucald.deploy.kits import Kit, open_kit
from mucald.errors import ConfigError

_WHOSE = {"server": "a server", "admin": "an admin"}


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald group-key", description=__doc__)
    verbs = parser.add_subparsers(dest="command", required=True)
    make = verbs.add_parser("make", help="make a group's key and write the letter")
    make.add_argument("group", help="the group's name in the job, or its task")
    make.add_argument("--for", type=Path, action="append", required=True, dest="certificates", metavar="CRT")
    make.add_argument("--out", type=Path, required=True, help="the letter, to be written")
    take = verbs.add_parser("take", help="take a group's key from a letter")
    take.add_argument("letter", type=Path)
    take.add_argument("--from", required=True, dest="maker", help="the site that made the key")
    for verb in (make, take):
        verb.add_argument("--kit", type=Path, required=True, help="this site's start-up kit")
        verb.add_argument("--force", **FORCE)
    return parser


def _site(folder: Path) -> Kit:
    kit = open_kit(folder)
    if kit.kind != "site":
        raise ConfigError(f"{folder} is the kit of {_WHOSE[kit.kind]}; keys of groups belong to sites")
    return kit


def run(arguments: argparse.Namespace) -> int:
    """Make a key or take one, and say where it lies."""
    kit = _site(arguments.kit)
    if arguments.command == "make":
        check_free([arguments.out], arguments.force)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        letter = make_key(kit, arguments.group, arguments.certificates, arguments.force)
        arguments.out.write_text(letter, encoding="ascii")
        print(f"{arguments.out}: send it to the other sites; '{kit.name}' has the key")
    else:
        letter = arguments.letter.read_text(encoding="ascii", errors="replace")
        print(f"the key lies in {take_key(kit, letter, arguments.maker, arguments.force)}")
    return 0


main = command(describe, run)
