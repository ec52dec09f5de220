"""Write a job as it is submitted, for ``nvflare job submit`` and the admin console.

    mucald export-job jobs/mucald --out exported/mucald

The folder holds configuration alone, every value of it, which sites accept that forbid custom code and have
this project installed. With ``--code`` it also holds the package under ``app/custom``, for sites that allow
custom code and have only the packages of ``requirements.txt``.
"""

import argparse
from pathlib import Path

from mucald.command_line import FORCE, Parser, command
from mucald.deploy.submission import export_job


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald export-job", description=__doc__)
    parser.add_argument("job", type=Path, help="a job folder")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--code", action="store_true", help="put the package under app/custom")
    parser.add_argument("--resume-from", help="a run's name as printed when it began, or 'latest'")
    parser.add_argument("--force", **FORCE)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Write the job folder."""
    changes = {} if arguments.resume_from is None else {"resume_from": arguments.resume_from}
    out = export_job(arguments.job, arguments.out, arguments.code, arguments.force, **changes)
    print(f"{out}: {'configuration and code' if arguments.code else 'configuration alone'}")
    return 0


main = command(describe, run)
