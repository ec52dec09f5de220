"""A job's files, read into the configuration of its family."""

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mucald.config.job import CONFIG_FILE, SERVER, JobConfig, check_site_names
from mucald.config.merge import overridden
from mucald.config.schema import closest, parse, parse_json, read_json
from mucald.errors import ConfigError
from mucald.methods import FAMILIES, family_of

META_FILE = "meta.json"

_OF_DIFFERENCES = ("base", "comparison", "name", "description", "set")
_FIELDS = "__dataclass_fields__"
_BESIDE = ("method", "name", "description")


def load_config(folder: Path) -> JobConfig:
    """Read ``mucald.json`` in ``folder``: a whole configuration, or a base and what differs.

    A job of a comparison, such as the consortium's, takes sites, images and schedule from there.

    Raises:
        ConfigError: the file is missing or wrong; the message names the key and the closest known one.
    """
    return parse_config(read_json(folder / CONFIG_FILE))


def parse_config(content: dict[str, Any]) -> JobConfig:
    """Return the configuration that the content of a ``mucald.json`` stands for.

    Raises:
        ConfigError: a base or key does not exist, or a value has the wrong type or range.
    """
    return _parse(content, ())


def _parse(content: dict[str, Any], through: tuple[str, ...]) -> JobConfig:
    """Parse a configuration to which the bases in ``through`` have led."""
    if "base" in content:
        content = _resolved(content, through)
    if "method" not in content:
        raise ConfigError(f"missing key 'method' or 'base'; a job has a method of {', '.join(FAMILIES)}")
    config = family_of(content["method"]).config
    for key in content:
        if key not in config.__dataclass_fields__:
            _check_family(key, content["method"])
    return parse(config, content)


def _resolved(content: dict[str, Any], through: tuple[str, ...]) -> dict[str, Any]:
    for key in content:
        if key not in _OF_DIFFERENCES:
            raise ConfigError(
                f"unknown key '{key}'{closest(key, list(_OF_DIFFERENCES))}; beside a base a job has only "
                f"{', '.join(_OF_DIFFERENCES)}, and values go into 'set'"
            )
    changes = _changes(content)
    base = _load_base(content["base"], through).to_dict()
    for key in ("name", "description"):
        if key not in content:
            raise ConfigError(f"missing key '{key}'; a job does not take it from its base")
    if "comparison" in content:
        base = overridden(base, _changes(read_comparison(content["comparison"])))
    for key in changes:
        if key in _BESIDE:
            raise ConfigError(f"'set' cannot change '{key}'; it comes from the base, or stands beside 'set'")
        _check_family(key, base["method"])
    return overridden(base, changes) | {key: content[key] for key in ("name", "description")}


def _changes(content: dict[str, Any]) -> dict[str, Any]:
    changes = content.get("set", {})
    if not isinstance(changes, dict):
        raise ConfigError("'set' must be an object of dotted keys and their values")
    return changes


def _check_family(key: str, method: str) -> None:
    """Say so if a key is one of another family, rather than that there is none."""
    if _has_key(method, key):
        return
    owners = [name for name in FAMILIES if _has_key(name, key)]
    if owners:
        raise ConfigError(
            f"the key '{key}' is one of the method {' and '.join(owners)}, but this job has the method "
            f"'{method}'"
        )


def _has_key(method: str, key: str) -> bool:
    kinds: list[Any] = [family_of(method).config]
    for name in key.split("."):
        hints = [get_type_hints(kind)[name] for kind in kinds if name in getattr(kind, _FIELDS, ())]
        # A section may be one of several.
        kinds = [kind for hint in hints for kind in (get_args(hint) or (hint,))]
        if not kinds:
            return False
    return True


def load_base(name: Any) -> JobConfig:
    """Return the configuration called ``name``, for example ``split/mucald_fresh``, of those in the package.

    Raises:
        ConfigError: there is none; the message names the nearest and all known ones.
    """
    return _load_base(name, ())


def _load_base(name: Any, through: tuple[str, ...]) -> JobConfig:
    content = read_base(name)
    if name in through:
        raise ConfigError(f"the base '{name}' leads back to itself: {' → '.join((*through, name))}")
    return _parse(content, (*through, name))


def read_base(name: Any) -> dict[str, Any]:
    """Return the content of the base called ``name`` as it stands, which may have a base of its own.

    Raises:
        ConfigError: there is none; the message names the nearest and all known ones.
    """
    known = base_names()
    if name not in known:
        raise ConfigError(f"unknown base '{name}'{closest(str(name), known)} (known: {', '.join(known)})")
    family, _, file = name.partition("/")
    return parse_json((_bases(family) / f"{file}.json").read_text("utf-8"), f"base {name}")


def base_names() -> list[str]:
    """Return the names of all bases, ``<family>/<file>``."""
    return sorted(f"{family}/{name}" for family in FAMILIES for name in _json_files(_bases(family)))


def read_comparison(name: Any) -> dict[str, Any]:
    """Return what the jobs of a comparison have alike, whatever their method: ``description`` and ``set``.

    Raises:
        ConfigError: there is none of the name; the message names the nearest and all known ones.
    """
    known = comparison_names()
    if name not in known:
        raise ConfigError(
            f"unknown comparison '{name}'{closest(str(name), known)} (known: {', '.join(known)})"
        )
    return parse_json((_comparisons() / f"{name}.json").read_text("utf-8"), f"comparison {name}")


def comparison_names() -> list[str]:
    """Return the names of all comparisons in the package."""
    return sorted(_json_files(_comparisons()))


def _bases(family: str) -> Traversable:
    # Not by the family's own package: that would import all families for a job of one.
    return resources.files("mucald.methods") / family / "bases"


def _comparisons() -> Traversable:
    return resources.files("mucald.methods") / "comparisons"


def _json_files(folder: Traversable) -> list[str]:
    """Return the names of a folder's JSON files, without their ending."""
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    return [match[1] for name in names if (match := re.fullmatch(r"(.+)\.json", name))]


def base_of(job: Path) -> JobConfig | None:
    """Return the base of a job folder; None if its ``mucald.json`` holds a whole configuration.

    Raises:
        ConfigError: see :func:`load_job`.
    """
    content = read_json(job / app_of(job)[0] / "config" / CONFIG_FILE)
    return load_base(content["base"]) if "base" in content else None


def load_job(job: Path) -> tuple[JobConfig, list[str]]:
    """Read a job folder: its configuration and its sites, in the order of ``meta.json``'s ``deploy_map``.

    Raises:
        ConfigError: a file is missing or wrong, or a site is named twice.
    """
    app, sites = app_of(job)
    check_site_names(sites)
    folder = job / app / "config"
    for name in ("config_fed_server.json", "config_fed_client.json"):
        if (folder / name).exists():
            _check_classes(folder / name)
    try:
        return load_config(folder), sites
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG_FILE}: {error}") from None


def _check_classes(path: Path) -> None:
    """Check that classes of ours that FLARE is to load exist; it would end the run with tracebacks."""
    for name in re.findall(r'"(mucald\.[\w.]+)"', path.read_text(encoding="utf-8")):
        module, _, title = name.rpartition(".")
        file = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py")
        if not file.is_file() or f"class {title}" not in file.read_text(encoding="utf-8"):
            raise ConfigError(f"{path}: this version has no '{name}'; take the file of a shipped job")


def app_of(job: Path) -> tuple[str, list[str]]:
    """Return the name of a job folder's app and the sites that run it.

    Raises:
        ConfigError: it is no job folder, or its ``meta.json`` is wrong.
    """
    if not (job / META_FILE).is_file():
        raise ConfigError(f"{job} is no job folder: {_lacking(job)}")
    deploy_map = read_json(job / META_FILE).get("deploy_map")
    if not isinstance(deploy_map, dict) or len(deploy_map) != 1:
        raise ConfigError(f"{job / META_FILE}: 'deploy_map' must name one app and the sites that run it")
    ((app, participants),) = deploy_map.items()
    if not isinstance(participants, list) or not all(isinstance(name, str) for name in participants):
        raise ConfigError(f"{job / META_FILE}: 'deploy_map.{app}' must be a list of sites")
    return app, [name for name in participants if name != SERVER]


def _lacking(job: Path) -> str:
    """Say what keeps a path from being a job folder, and which one may be meant."""
    known = sorted(path.parent.name for path in job.parent.glob(f"*/{META_FILE}"))
    if not job.exists():
        return f"it does not exist{closest(job.name, known)}"
    owners = [folder for folder in job.parents if (folder / META_FILE).is_file()]
    hint = f"; give {owners[0]}" if owners else closest(job.name, known)
    return f"it {'is a file' if job.is_file() else f'has no {META_FILE}'}{hint}"
