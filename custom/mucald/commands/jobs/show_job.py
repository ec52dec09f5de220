"""Print a job's whole configuration as JSON, every value that holds in a run.

    mucald show-job jobs/mucald
    mucald show-job jobs/mucald --changed

With ``--changed`` only what differs from the job's base, and with ``--changed split/mucald`` from that base,
for an exported job, which no longer names its own.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from mucald.command_line import Found, Parser, add_json_option, command
from mucald.config.merge import differences
from mucald.errors import ConfigError
from mucald.methods.jobs import base_of, load_base, load_job


def changed(job: Path, base: str) -> dict[str, Any]:
    """Return what differs from a base by dotted key; ``base`` is empty for the job's own.

    Raises:
        ConfigError: there is no such base, it is of another method, or the job names none.
    """
    config, of = load_job(job)[0], load_base(base) if base else base_of(job)
    if of is None:
        raise ConfigError(f"{job} holds a whole configuration; name a base: --changed split/mucald")
    if of.method != config.method:
        raise ConfigError(f"the base has the method '{of.method}', {job} '{config.method}'")
    return differences(of.to_dict(), config.to_dict())


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald show-job", description=__doc__)
    parser.add_argument("job", type=Path, help="a job folder, for example jobs/mucald")
    parser.add_argument(
        "--changed", nargs="?", const="", metavar="BASE", help="only what differs from a base; the job's own"
    )
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Print the configuration."""
    if arguments.changed is None:
        content = load_job(arguments.job)[0].to_dict()
    else:
        content = changed(arguments.job, arguments.changed)
    # People read JSON here as well; a machine is given it once, by the option that all its verbs have.
    if not arguments.json:
        print(json.dumps(content, indent=2, ensure_ascii=False))
    return Found(content)


main = command(describe, run)
