"""A job as a base and what differs from it: the one place where configurations are merged."""

import copy
from collections.abc import Mapping
from typing import Any

from mucald.config.schema import closest
from mucald.errors import ConfigError

OPEN = frozenset({"sites"})
"""Mappings whose keys are names of the user's; a job that gives one gives all of it."""

_CHOICES = ("rule", "name")


def overridden(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole configuration with ``changes`` put into it.

    Args:
        base: every section and key, with its value.
        changes: new values by dotted key, such as ``{"release.noised": false}``. A section may be given as an
            object, whose keys are then changed one by one; but one that names a ``rule`` or a ``name`` is
            replaced whole, for its other keys belong to that choice.

    Raises:
        ConfigError: the base has no such key; the message names the nearest.
    """
    content = copy.deepcopy(dict(base))
    for key, value in changes.items():
        _change(content, key.split("."), value, key)
    return content


def _change(section: dict[str, Any], path: list[str], value: Any, key: str) -> None:
    name, *rest = path
    if name not in section:
        outer = key.rsplit(".", len(path))[0] + "." if len(path) < len(key.split(".")) else ""
        raise ConfigError(f"the base has no key '{outer}{name}'{closest(name, list(section))}")
    present = section[name]
    if rest:
        if not isinstance(present, dict):
            raise ConfigError(f"'{key}' lies within '{name}', which is a value and no section")
        _change(present, rest, value, key)
    elif isinstance(value, dict) and isinstance(present, dict) and not _is_replaced(name, value):
        for inner, inner_value in value.items():
            _change(present, inner.split("."), inner_value, f"{key}.{inner}")
    else:
        section[name] = copy.deepcopy(value)


def _is_replaced(name: str, value: Mapping[str, Any]) -> bool:
    return name in OPEN or any(choice in value for choice in _CHOICES)
