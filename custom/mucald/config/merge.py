"""A job as a base and what differs from it: the one place where configurations are merged and compared."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from mucald.config.schema import closest
from mucald.errors import ConfigError

OPEN = frozenset({"sites", "args", "plans"})
"""Mappings whose keys are the user's own or belong to a choice; a job that gives one gives all of it."""

_CHOICES = ("rule", "name")
_KIND = "backbone"


def overridden(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a whole configuration with ``changes`` put into it.

    Args:
        base: every section and key, with its value.
        changes: new values by dotted key, such as ``{"release.noised": false}``. A section may be given as an
            object, whose keys are then changed one by one; but one that names a ``rule`` or a ``name``, or a
            ``backbone`` with other keys, is replaced whole, for its other keys belong to that choice.

    Raises:
        ConfigError: the base has no such key, the message names the nearest; or a key is given twice.
    """
    content = copy.deepcopy(dict(base))
    given: set[str] = set()
    for key, value in _leaves(base, changes):
        for other in given:
            if f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}."):
                raise ConfigError(f"the key '{max(key, other, key=len)}' is set twice; give it once")
        given.add(key)
        *sections, name = key.split(".")
        inner = content
        for section in sections:
            inner = inner[section]
        inner[name] = copy.deepcopy(value)
    return content


def differences(base: Mapping[str, Any], content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the changes by dotted key that make ``content`` of ``base``, see :func:`overridden`.

    Args:
        base: a whole configuration.
        content: another with the same sections.
        prefix: dotted name of both within the document.
    """
    found: dict[str, Any] = {}
    for name, value in content.items():
        if base[name] == value:
            continue
        if _is_merged(name, base[name], value):
            found |= differences(base[name], value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def dotted_keys(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted names of all sections and keys."""
    found = []
    for name, value in content.items():
        found.append(prefix + name)
        if isinstance(value, dict):
            found += dotted_keys(value, f"{prefix}{name}.")
    return found


def _leaves(
    base: Mapping[str, Any], changes: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield the values to set by dotted key, each once its key is known to be in the base."""
    for key, value in changes.items():
        key = prefix + key
        present = _value_at(base, key)
        if _is_merged(key.rpartition(".")[2], present, value):
            yield from _leaves(base, value, f"{key}.")
        else:
            yield key, value


def _value_at(base: Mapping[str, Any], key: str) -> Any:
    value: Any = base
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            raise ConfigError(f"there is no key '{key}'{_nearest(key, dotted_keys(base))}")
        value = value[name]
    return value


def _nearest(key: str, known: list[str]) -> str:
    # A key without its section is far from the whole name.
    alike = [name for name in known if name.endswith(f".{key}")]
    return f"; did you mean '{alike[0]}'?" if alike else closest(key, known)


def replaced_whole(name: str, value: Any) -> bool:
    """Return whether a new value of a section takes the place of all its keys."""
    return name in OPEN or not isinstance(value, dict) or any(choice in value for choice in _CHOICES)


def _is_merged(name: str, present: Any, value: Any) -> bool:
    if not isinstance(present, dict) or replaced_whole(name, value):
        return False
    return _KIND not in value or value.keys() <= present.keys()
