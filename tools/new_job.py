"""Make a job for other sites: a copy of a job folder with the sites that have a ``site.json``.

Usage: ``python tools/new_job.py jobs/mucald --home HOME --out jobs_local/mucald``

Every folder ``HOME/<site>`` with a ``site.json`` becomes a site of the new job, with the task that the file
names. All else stays as it is in the original.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from mucald.config.job import CONFIG_FILE
from mucald.data.site_file import SITE_FILE, read_site_file
from mucald.errors import ConfigError, MucaldError
from mucald.methods import family_of
from mucald.methods.jobs import app_of, load_config, load_job


def new_job(original: Path, home: Path, out: Path) -> list[str]:
    """Write the job folder ``out`` and return its sites.

    Raises:
        MucaldError: the original job or a site file is wrong, there is no site, or ``out`` exists.
    """
    load_job(original)
    tasks = {path.parent.name: read_site_file(path).task for path in sorted(home.glob(f"*/{SITE_FILE}"))}
    if not tasks:
        raise ConfigError(f"no {SITE_FILE} below {home}; each site needs {home}/<site>/{SITE_FILE}")
    if out.exists():
        raise ConfigError(f"{out} exists; choose another folder or remove it")
    shutil.copytree(original, out)
    app, _ = app_of(original)
    config_file = out / app / "config" / CONFIG_FILE
    content = _read(config_file)
    values = content.setdefault("set", {}) if "base" in content else content
    values["sites"] = {site: {"task": task} for site, task in tasks.items()}
    _write(config_file, content)
    config = load_config(config_file.parent)
    participants = family_of(config.method).participants(config)
    _write(out / "meta.json", _read(out / "meta.json") | {"deploy_map": {app: ["server", *participants]}})
    load_job(out)
    return list(tasks)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", type=Path, help="the job folder to start from")
    parser.add_argument("--home", type=Path, required=True, help="folder of the sites' own folders")
    parser.add_argument("--out", type=Path, required=True, help="the job folder to write")
    arguments = parser.parse_args(argv)
    try:
        sites = new_job(arguments.job, arguments.home, arguments.out)
    except MucaldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.out}: {', '.join(sites)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
