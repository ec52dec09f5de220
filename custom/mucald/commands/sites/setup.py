"""Lay this project's templates into start-up kits and check them, on the machine where they are to run.

    mucald setup provisioned/mucald/prod_00/*
    mucald setup provisioned/mucald/prod_00/polyp --check

What is written: into ``local/resources.json`` the classes that a job may name, on the server where jobs are
stored, on a site that its log stays there and that a killed job process is started again; on a site also
``local/authorization.json`` (no custom code, no reading of files from outside) and, beside images of
its own, ``policy.json``; on an admin's kit, into ``transfer``, the jobs that the console submits by name.
What people edit there is never overwritten. A second run changes nothing.

Exit status 1 means that something would keep a participant from taking part.
"""

import argparse
from pathlib import Path

from mucald.command_line import Found, Parser, WrongUseError, add_json_option, command
from mucald.commands import CHECKOUT
from mucald.deploy.kit_checks import check_kit
from mucald.deploy.kits import open_kit, set_up
from mucald.deploy.transfer import FOLDER, fill
from mucald.errors import explained

TEMPLATES, JOBS = CHECKOUT / "workspace_templates", CHECKOUT / "jobs"


def handle(folder: Path, arguments: argparse.Namespace) -> bool:
    """Set up and check one kit; return whether it can take part."""
    try:
        kit = open_kit(folder)
        print(f"{kit.name} ({kit.kind}), {kit.folder}")
        if not arguments.check:
            for path in set_up(kit, arguments.templates, arguments.site_file):
                print(f"  written  {path}")
        findings = check_kit(kit)
        if kit.kind == "admin":
            names, found = fill(kit, arguments.jobs, write=not arguments.check, force=arguments.force)
            findings += found
            if names:
                print(f"  written  {kit.folder / FOLDER}: {', '.join(names)}")
    except Exception as error:  # noqa: BLE001 - a damaged kit is damaged anyhow, and the others are looked at
        print(f"  WRONG    {explained(error, reading=folder)}")
        return False
    for finding in findings:
        print(f"  {'WRONG' if finding.hinders else 'note':<8} {finding.text}")
    return not any(finding.hinders for finding in findings)


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald setup", description=__doc__)
    parser.add_argument("kits", type=Path, nargs="+", help="start-up kits, of server, sites and admins")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--site-file", type=Path, help="the site's site.json; only with a single kit")
    parser.add_argument("--jobs", type=Path, default=JOBS, help="folder of the jobs for an admin's kit")
    parser.add_argument("--force", action="store_true", help="replace jobs that were edited in transfer")
    parser.add_argument("--templates", type=Path, default=TEMPLATES, help="folder workspace_templates")
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Set up and check the kits; the status is 1 if something hinders a participant."""
    if arguments.site_file is not None and len(arguments.kits) > 1:
        raise WrongUseError("--site-file belongs to one site; name one kit")
    able = {str(folder): handle(folder, arguments) for folder in arguments.kits}
    return Found({"can_take_part": able}, status=0 if all(able.values()) else 1)


main = command(describe, run)
