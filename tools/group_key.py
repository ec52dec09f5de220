"""Give the sites of a group a key with which they seal what the server must not read.

    python tools/group_key.py make kvasir --kit KIT --for endo.crt --for gastro.crt --out kvasir.letter
    python tools/group_key.py take kvasir.letter --kit KIT --from polyp

One site makes the key, with ``startup/client.crt`` of the kit of every other site of the group; the letter
may go any way, since only they can open it. Each of them takes it, and says from whom it expects it. The key
lies in the site's own folder (mode 600); with ``--force`` a new one replaces it.
"""

import argparse
import sys
from pathlib import Path

from mucald.command_line import FORCE, Parser, check_free, program
from mucald.deploy.group_keys import make_key, take_key
from mucald.deploy.kits import Kit, open_kit
from mucald.errors import ConfigError

_WHOSE = {"server": "a server", "admin": "an admin"}


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="make a group's key and write the letter")
    make.add_argument("group", help="the group's name in the job, or its task")
    make.add_argument("--for", type=Path, action="append", required=True, dest="certificates", metavar="CRT")
    make.add_argument("--out", type=Path, required=True, help="the letter, to be written")
    take = commands.add_parser("take", help="take a group's key from a letter")
    take.add_argument("letter", type=Path)
    take.add_argument("--from", required=True, dest="maker", help="the site that made the key")
    for command in (make, take):
        command.add_argument("--kit", type=Path, required=True, help="this site's start-up kit")
        command.add_argument("--force", **FORCE)
    return parser.parse_args(argv)


def _site(folder: Path) -> Kit:
    kit = open_kit(folder)
    if kit.kind != "site":
        raise ConfigError(f"{folder} is the kit of {_WHOSE[kit.kind]}; keys of groups belong to sites")
    return kit


@program
def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = _arguments(argv)
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


if __name__ == "__main__":
    sys.exit(main())
