"""Make a job for other sites: a copy of a job folder with the sites that have a ``site.json``.

    mucald new-job jobs/mucald --home home --out home/job

Every folder ``<home>/<site>`` with a ``site.json`` becomes a site of the new job, with the task that the file
names. All else stays as it is in the original.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from mucald.command_line import FORCE, Found, Parser, add_json_option, command
from mucald.config.job import CONFIG_FILE, check_site_name
from mucald.data.site_file import PATHS, SITE_FILE, read_site_file
from mucald.deploy.submission import make_room
from mucald.errors import ConfigError, DataError
from mucald.federation.admission import check_participants
from mucald.methods import family_of
from mucald.methods.jobs import app_of, load_job, parse_config


def new_job(original: Path, home: Path, out: Path, force: bool = False) -> list[str]:
    """Write the job folder ``out``, with ``force`` in place of another, and return its sites.

    Raises:
        MucaldError: the original job or a site file is wrong, a site's images are not there, there is no
            site, the method cannot join them, or ``out`` must stay.
    """
    load_job(original)
    tasks = {path.parent.name: _task(path) for path in sorted(home.glob(f"*/{SITE_FILE}"))}
    if not tasks:
        raise ConfigError(f"no {SITE_FILE} below {home}; each site needs {home}/<site>/{SITE_FILE}")
    for site in tasks:
        check_site_name(site)
    app, _ = app_of(original)
    config_file = Path(app) / "config" / CONFIG_FILE
    content = _read(original / config_file)
    values = content.setdefault("set", {}) if "base" in content else content
    values["sites"] = {site: {"task": task} for site, task in tasks.items()}
    config = parse_config(content)
    family = family_of(config.method)
    participants = family.participants(config)
    check_participants(family, config, participants)
    make_room(out, original, force)
    shutil.copytree(original, out)
    _write(out / config_file, content)
    _write(out / "meta.json", _read(out / "meta.json") | {"deploy_map": {app: ["server", *participants]}})
    load_job(out)
    return list(tasks)


def _task(path: Path) -> str:
    """Return the task of a site file whose images are there."""
    site_file = read_site_file(path)
    for key in PATHS:
        place = getattr(site_file, key)
        if place is not None and not Path(place).exists():
            raise DataError(f"{path}: '{key}' names {place}, which does not exist; mend it")
    return site_file.task


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def describe() -> Parser:
    """Return the parser of the command's arguments."""
    parser = Parser(prog="mucald new-job", description=__doc__)
    parser.add_argument("job", type=Path, help="the job folder to start from")
    parser.add_argument("--home", type=Path, required=True, help="folder of the sites' own folders")
    parser.add_argument("--out", type=Path, required=True, help="the job folder to write")
    parser.add_argument("--force", **FORCE)
    add_json_option(parser)
    return parser


def run(arguments: argparse.Namespace) -> Found:
    """Make the job, and name its sites."""
    sites = new_job(arguments.job, arguments.home, arguments.out, arguments.force)
    print(f"{arguments.out}: {', '.join(sites)}")
    return Found({"job": arguments.out, "sites": sites})


main = command(describe, run)
