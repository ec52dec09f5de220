"""A job's files, read into the configuration of its family."""

import re
from importlib import resources
from pathlib import Path
from typing import Any

from mucald.config.job import CONFIG_FILE, JobConfig, check_site_names
from mucald.config.merge import overridden
from mucald.config.schema import closest, parse, parse_json, read_json
from mucald.errors import ConfigError
from mucald.methods import FAMILIES, family_of

_OF_DIFFERENCES = ("base", "name", "description", "set")


def load_config(folder: Path) -> JobConfig:
    """Read ``mucald.json`` in ``folder``: a whole configuration, or a base and what differs.

    Raises:
        ConfigError: the file is missing or wrong; the message names the key and the closest known one.
    """
    return parse_config(read_json(folder / CONFIG_FILE))


def parse_config(content: dict[str, Any]) -> JobConfig:
    """Return the configuration that the content of a ``mucald.json`` stands for.

    Raises:
        ConfigError: a base or key does not exist, or a value has the wrong type or range.
    """
    if "base" in content:
        content = _resolved(content)
    if "method" not in content:
        raise ConfigError(f"missing key 'method' or 'base'; a job has a method of {', '.join(FAMILIES)}")
    return parse(family_of(content["method"]).config, content)


def _resolved(content: dict[str, Any]) -> dict[str, Any]:
    for key in content:
        if key not in _OF_DIFFERENCES:
            raise ConfigError(
                f"unknown key '{key}'{closest(key, list(_OF_DIFFERENCES))}; beside a base a job has only "
                f"{', '.join(_OF_DIFFERENCES)}, and values go into 'set'"
            )
    changes = content.get("set", {})
    if not isinstance(changes, dict):
        raise ConfigError("'set' must be an object of dotted keys and their values")
    base = load_base(content["base"]).to_dict()
    for key in changes:
        _check_family(key, base)
    texts = {key: content[key] for key in ("name", "description") if key in content}
    return overridden(base, changes) | texts


def _check_family(key: str, base: dict[str, Any]) -> None:
    """Say so if a key is one of another family, rather than that there is none."""
    section = key.split(".")[0]
    owners = [name for name in FAMILIES if section in family_of(name).config.__dataclass_fields__]
    if section not in base and owners:
        raise ConfigError(
            f"the key '{key}' is one of the method {' and '.join(owners)}, but the job's base has the method "
            f"'{base['method']}'"
        )


def load_base(name: Any) -> JobConfig:
    """Return the configuration called ``name``, for example ``split/mucald_fresh``, of those in the package.

    Raises:
        ConfigError: there is none; the message names the nearest and all known ones.
    """
    known = base_names()
    if name not in known:
        raise ConfigError(f"unknown base '{name}'{closest(str(name), known)} (known: {', '.join(known)})")
    family, _, file = name.partition("/")
    text = (resources.files(f"mucald.methods.{family}") / "bases" / f"{file}.json").read_text("utf-8")
    return parse_config(parse_json(text, f"base {name}"))


def base_names() -> list[str]:
    """Return the names of all bases, ``<family>/<file>``."""
    found = []
    for family in FAMILIES:
        folder = resources.files(f"mucald.methods.{family}") / "bases"
        names = (file.name for file in folder.iterdir()) if folder.is_dir() else ()
        found += [f"{family}/{match[1]}" for name in names if (match := re.fullmatch(r"(.+)\.json", name))]
    return sorted(found)


def load_job(job: Path) -> tuple[JobConfig, list[str]]:
    """Read a job folder: its configuration and its sites, in the order of ``meta.json``'s ``deploy_map``.

    Raises:
        ConfigError: a file is missing or wrong, or a site is named twice.
    """
    meta = read_json(job / "meta.json")
    deploy_map = meta.get("deploy_map")
    if not isinstance(deploy_map, dict) or len(deploy_map) != 1:
        raise ConfigError("meta.json: 'deploy_map' must name one app and the sites that run it")
    ((app, participants),) = deploy_map.items()
    sites = [name for name in participants if name != "server"]
    check_site_names(sites)
    return load_config(job / app / "config"), sites
