"""Write the tables of keys, jobs, policy and tasks in ``docs`` from the code and the jobs.

Usage: ``python tools/reference.py``; with ``--check`` nothing is written, and a table that is not as the code
says is an error. Each stands between two comments, ``<!-- NAME: begin …`` and ``<!-- NAME: end -->``.
"""

import dataclasses
import importlib
import json
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mucald.command_line import Parser, program
from mucald.config.job import CONFIG_FILE, JobConfig
from mucald.config.keys import Key, key_of
from mucald.config.merge import replaced_whole
from mucald.config.schema import read_json
from mucald.data.site_file import SiteFile
from mucald.errors import ConfigError
from mucald.methods import FAMILIES, family_of
from mucald.methods.jobs import (
    app_of,
    base_names,
    comparison_names,
    load_base,
    read_base,
    read_comparison,
)
from mucald.methods.split.causal.graphs import CAUSAL_TASKS
from mucald.privacy.disclosure import KINDS
from mucald.privacy.policy import DEFAULT
from mucald.tasks import TASKS

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = {
    REPOSITORY / "docs/configuration.md": ("keys", "jobs", "site.json", "policy.json"),
    REPOSITORY / "docs/tasks.md": ("tasks",),
}
"""Which tables each has."""
Row = tuple[str, ...]
HEADER = ("Key", "Shipped", "Allowed", "Meaning")
_NUMBERS = {int: "integer", float: "number", str: "text"}


def table(header: Row, rows: Sequence[Row]) -> str:
    """Return a Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def code(value: Any) -> str:
    """Return a JSON value in code style."""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def summary(of: Any) -> str:
    """Return the first paragraph of a docstring as Markdown."""
    paragraph = (of.__doc__ or "").strip().split("\n\n")[0]
    return re.sub(r"\s+", " ", paragraph).replace("``", "`") + "\n"


def allowed(hint: Any, said: Key) -> str:
    """Return what values a key may have, in words."""
    parts, bounds = [], (said.at_least, said.above, said.at_most)
    if get_origin(hint) in (Union, types.UnionType):
        parts.append("`null`")
        hint = next(one for one in get_args(hint) if one is not type(None))
    if said.registry:
        module, _, name = said.registry.rpartition(".")
        registry = getattr(importlib.import_module(module), name)
        parts.append(arguments(registry) if get_origin(hint) is dict else names(registry))
    elif get_origin(hint) is Literal:
        parts.append(names(get_args(hint)))
    elif hint is bool:
        parts.append("`true`, `false`")
    elif dataclasses.is_dataclass(hint):
        parts.append(f"a {hint.__name__.lower()}")  # type: ignore[union-attr]
    elif hint in _NUMBERS and not said.allowed and bounds == (None, None, None):
        parts.append(_NUMBERS[hint])
    if said.at_most is not None:
        parts.append(f"{said.at_least:g} … {said.at_most:g}")
    elif said.at_least is not None:
        parts.append(f"≥ {said.at_least:g}")
    elif said.above is not None:
        parts.append(f"> {said.above:g}")
    return "; ".join(part for part in (", ".join(parts), said.allowed) if part)


def names(choices: Iterable[str]) -> str:
    """Return names in code style."""
    return ", ".join(f"`{choice}`" for choice in choices)


def arguments(registry: Mapping[str, type]) -> str:
    """Return what arguments the classes of a registry have."""
    fields = {name: [field.name for field in dataclasses.fields(cls)] for name, cls in registry.items()}
    listed = [f"`{name}`: {names(own)}" for name, own in fields.items() if own]
    return "; ".join([*listed, "the others none"])


def rows_of(
    fields: "Iterable[dataclasses.Field[Any]]",
    hints: Mapping[str, Any],
    values: Mapping[str, Any],
    prefix: str = "",
) -> Iterator[Row]:
    """Yield a row for every key and for those of the sections within.

    Args:
        fields: of a dataclass.
        hints: their types by name.
        values: the shipped values by name; a key with neither one nor a default is required.
        prefix: dotted name of the section.
    """
    for field in fields:
        said, hint, name = key_of(field), hints[field.name], prefix + field.name
        default = default_of(field)
        value = values.get(field.name, default)
        if said is None and get_origin(hint) is dict:
            yield from rows_in(get_args(hint)[1], {}, f"{name}.<{field.name.removesuffix('s')}>.")
        elif said is None:
            yield from rows_in(hint, {} if value is dataclasses.MISSING else value, f"{name}.")
        else:
            shown = "required"
            if value is not dataclasses.MISSING:
                shown = f"({code(value)})" if value == default else code(value)
            yield f"`{name}`", shown, allowed(hint, said), said.meaning


def rows_in(cls: Any, values: Mapping[str, Any], prefix: str = "") -> Iterator[Row]:
    """Yield the rows of a dataclass, see :func:`rows_of`."""
    return rows_of(dataclasses.fields(cls), get_type_hints(cls), values, prefix)


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """Return the JSON value of a key that a file leaves out; MISSING where it may not."""
    factory = field.default_factory
    value = field.default if factory is dataclasses.MISSING else factory()
    value = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
    return value if value is dataclasses.MISSING else json.loads(json.dumps(value))


def keys() -> str:
    """Return the tables of ``mucald.json``: what every method has, and what each adds."""
    shipped = {family: load_base(roots(family)[0]).to_dict() for family in FAMILIES}
    rows = list(rows_in(JobConfig, shipped[FAMILIES[0]]))
    parts = [f"### Every method\n\n{table(HEADER, rows)}"]
    told: dict[str, str] = {}
    for family in FAMILIES:
        parts.append(f"### Method `{family}`\n\n{summary(family_of(family).config)}")
        for heading, text in family_tables(family_of(family).config, shipped[family]):
            known = told.setdefault(text, family)
            parts.append(heading + (text if known == family else f"As of the method `{known}`.\n"))
    return "\n".join(parts)


def roots(family: str) -> list[str]:
    """Return the bases of a family that have no base of their own."""
    return [name for name in base_names() if name.startswith(f"{family}/") and "base" not in read_base(name)]


def family_tables(cls: Any, shipped: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield heading and table of what a family adds: its own keys, and each of its sections."""
    hints, common = get_type_hints(cls), {field.name for field in dataclasses.fields(JobConfig)}
    own = [field for field in dataclasses.fields(cls) if field.name not in common]
    if plain := [field for field in own if key_of(field) is not None]:
        yield "", table(HEADER, list(rows_of(plain, hints, shipped)))
    for field in own:
        # Of several kinds of a section the last is the one that the shipped values are of.
        for part in reversed(kinds_of(hints[field.name])) if key_of(field) is None else ():
            name = field.name
            values = shipped[name] if part is kinds_of(hints[name])[-1] else {}
            rows = list(rows_in(part, values, f"{name}."))
            yield f"#### `{name}`\n\n", f"{summary(part)}\n{table(HEADER, rows)}{tables_of_values(part)}"


def kinds_of(hint: Any) -> Sequence[Any]:
    """Return the dataclasses that a section may be."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def tables_of_values(cls: Any) -> str:
    """Return the tables of the keys of those values of a section that have keys themselves."""
    hints, found = get_type_hints(cls), ""
    kinds = [hints[field.name] for field in dataclasses.fields(cls) if key_of(field) is not None]
    for kind in dict.fromkeys(kind for kind in kinds if dataclasses.is_dataclass(kind)):
        inner: list[Row] = [(name, *more) for name, _, *more in rows_in(kind, {})]
        header = (f"Key of a {kind.__name__.lower()}", *HEADER[2:])  # type: ignore[union-attr]
        found += f"\n{summary(kind)}\n{table(header, inner)}"
    return found


def jobs() -> str:
    """Return the tables of the bases and of the jobs of each."""
    header = ("Base", "What it is", "Its base", "Differs in")
    bases = {name: read_base(name) for name in base_names()}
    rows = [
        (
            f"`{name}`",
            content["description"],
            f"`{content['base']}`" if "base" in content else "",
            sets(content),
        )
        for name, content in bases.items()
    ]
    alike = [
        (f"`{name}`", content["description"], sets(content))
        for name, content in ((name, read_comparison(name)) for name in comparison_names())
    ]
    parts = [table(header, rows), table(("Comparison", "What it is", "What its jobs have alike"), alike)]
    folders = sorted(path.parent for path in REPOSITORY.glob("jobs/*/meta.json"))
    contents = {job.name: read_json(job / app_of(job)[0] / "config" / CONFIG_FILE) for job in folders}
    for base in bases:
        own = {name: content for name, content in contents.items() if content["base"] == base}
        rows = [(f"`{name}`", content["description"], sets(content)) for name, content in own.items()]
        parts.append(f"### Jobs from `{base}`\n\n{table(('Job', 'What it is', 'Differs in'), rows)}")
    return "\n".join(parts)


def sets(content: Mapping[str, Any]) -> str:
    """Return what a job sets, and the comparison that it takes more from."""
    found = [f"the comparison `{content['comparison']}`"] if "comparison" in content else []
    return ", ".join([*found, *(f"`{key}` = {code(value)}" for key, value in leaves(content.get("set", {})))])


def leaves(changes: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values that a job sets by dotted key; what is replaced whole is one of them."""
    for key, value in changes.items():
        if isinstance(value, dict) and not replaced_whole(key, value):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def site_file() -> str:
    """Return the table of ``site.json``."""
    values = dataclasses.asdict(SiteFile(task=next(iter(TASKS)), datalist="")) | {"datalist": None}
    del values["task"]
    rows: list[Row] = [
        (name, default.strip("()"), *more) for name, default, *more in rows_in(SiteFile, values)
    ]
    return table(("Key", "Default", *HEADER[2:]), rows)


def policy() -> str:
    """Return the table of what may leave, and what the template of ``policy.json`` says of it."""
    rows: list[Row] = []
    for kind, content in KINDS.items():
        template = DEFAULT.discloses.get(kind)
        rows.append((f"`{kind}`", "not allowed" if template is None else "allowed", content.meaning))
        for name in content.limits:
            value = "" if template is None else code(template[name])
            meaning = content.limits[name].meaning
            rows.append((f"`{kind}`, `{name}`", value, meaning))
    return table(("What leaves, and its limits", "Template", "Meaning"), rows)


def tasks() -> str:
    """Return the table of tasks."""
    rows: list[Row] = []
    for name, task in TASKS.items():
        sample = f"volume, {task.modality}" if task.input == "volume" else task.input
        edges = CAUSAL_TASKS[name].graph.edges if name in CAUSAL_TASKS else ()
        graph = ", ".join(f"{cause} → {effect}" for cause, effect in edges) or "–"
        rows.append((f"`{name}`", sample, task.target, ", ".join(task.classes), graph))
    return table(("Task", "Sample", "Target", "Classes (0, 1, …)", "Causal graph"), rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "keys": keys,
    "jobs": jobs,
    "site.json": site_file,
    "policy.json": policy,
    "tasks": tasks,
}


def written(document: Path, blocks: Sequence[str]) -> str:
    """Return a document's text with its blocks as the code has them.

    Raises:
        ConfigError: it lacks the comments of a block.
    """
    text = document.read_text(encoding="utf-8")
    for name in blocks:
        begin, end = (
            f"<!-- {name}: begin; written by `python tools/reference.py` -->",
            f"<!-- {name}: end -->",
        )
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ConfigError(f"{document.name} lacks the comments {begin} and {end}")
        text = f"{before}{begin}\n\n{BLOCKS[name]()}\n{end}{after}"
    return text


@program
def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = Parser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")
    arguments = parser.parse_args(argv)
    for document, blocks in DOCUMENTS.items():
        after = written(document, blocks)
        if after == document.read_text(encoding="utf-8"):
            continue
        if arguments.check:
            raise ConfigError(f"{document.name} is not what code and jobs say; run python tools/reference.py")
        document.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
