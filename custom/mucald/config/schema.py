"""Read JSON into frozen dataclasses, naming the key at fault when it does not fit.

The dataclass is the schema: every field must be present, no other key may be, and the type annotation says
what is allowed. Supported: ``bool``, ``int``, ``float``, ``str``, ``Literal`` choices, ``X | None``,
``tuple[X, ...]``, ``dict[str, X]``, nested dataclasses, or one of several. A field with a default may be left
out.
"""

import dataclasses
import difflib
import errno
import json
import math
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mucald.errors import ConfigError

T = TypeVar("T")


def closest(name: str, known: list[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name nearest to ``name``, or an empty string."""
    matches = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from ``path``.

    Raises:
        ConfigError: the file is missing or cannot be read, is no JSON object, or names a key twice.
    """
    try:
        content = read_bytes(path)
        # Windows begins UTF-8 with a mark, and its PowerShell writes UTF-16.
        return parse_json(content.decode(json.detect_encoding(content)), path.name)
    except FileNotFoundError:
        if path.is_symlink():
            raise ConfigError(
                f"{path.name} is a link that leads nowhere; mount what it leads to, or mend it"
            ) from None
        raise ConfigError(f"configuration file not found: {path.name}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not valid JSON: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror}") from None


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file; a pipe or a device may give it for ever.

    Raises:
        OSError: it cannot be read, or is none.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is a pipe, socket or device; give a regular file", str(path))
    return path.read_bytes()


def parse_json(text: str, name: str) -> dict[str, Any]:
    """Return the JSON object that ``text`` is.

    Raises:
        ConfigError: it is no JSON or no object, or names a key twice; the message calls it ``name``.
    """
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{name} must hold a JSON object, not {type(value).__name__}")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' occurs twice")
    return content


def parse(cls: type[T], value: Any, path: str = "") -> T:
    """Build the dataclass ``cls`` from a JSON object.

    Args:
        cls: a dataclass.
        value: the decoded JSON.
        path: dotted name of ``value`` within the document, for error messages.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type or choice.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"'{path}' must be an object, not {json.dumps(value)}")
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in value:
        if key not in fields:
            raise ConfigError(f"unknown key '{_join(path, key)}'{closest(key, list(fields))}")
    arguments = {}
    for name, field in fields.items():
        if name in value:
            arguments[name] = _convert(hints[name], value[name], _join(path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"missing key '{_join(path, name)}'")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ConfigError(f"'{path}': {error}" if path else str(error)) from None


def parse_named(registry: Mapping[str, type[T]], what: str, name: str, args: Any, path: str) -> T:
    """Build the dataclass that a job names, with the arguments that it gives.

    Args:
        registry: the dataclasses by name.
        what: what they are, for error messages.
        name: of ``registry``.
        args: the decoded JSON of the arguments.
        path: dotted name of ``args`` within the document, for error messages.

    Raises:
        ConfigError: the name is unknown; or see :func:`parse`.
    """
    if name not in registry:
        raise ConfigError(f"unknown {what} '{name}'{closest(name, list(registry))}")
    return parse(registry[name], args, path)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(_kind_of([a for a in arguments if a is not type(None)], value), value, path)
    if origin is Literal:
        if value not in arguments:
            hint_text = closest(str(value), [str(a) for a in arguments])
            raise ConfigError(
                f"'{path}' must be one of {list(arguments)}, not {json.dumps(value)}{hint_text}"
            )
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _convert(arguments[1], item, _join(path, key)) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return parse(hint, value, path)  # type: ignore[arg-type]
    if hint is Any:
        return value
    return _convert_scalar(hint, value, path)


def _kind_of(kinds: Sequence[Any], value: Any) -> Any:
    """Return that of several dataclasses of which a Literal field allows what ``value`` says, or the last."""
    for kind in kinds[:-1]:
        for name, hint in get_type_hints(kind).items():
            if get_origin(hint) is Literal and isinstance(value, dict) and value.get(name) in get_args(hint):
                return kind
    return kinds[-1]


def _convert_scalar(hint: Any, value: Any, path: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    # bool is a subclass of int, so isinstance alone would let true pass for 1.
    if type(value) is not hint:
        name = getattr(hint, "__name__", str(hint))
        raise ConfigError(f"'{path}' must be of type {name}, not {json.dumps(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"'{path}' must be a finite number")
    return value
