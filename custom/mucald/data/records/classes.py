"""The class of each case of a set whose samples have one, by ``dataset.json`` or a table."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mucald.config.schema import closest, read_bytes
from mucald.data.files import count, same_form
from mucald.errors import DataError
from mucald.tasks import Task

TABLE = "classes.csv"
"""Name of the table where the site file names none."""
_CASE, _CLASS = "case", "class"
_PUBLIC = "the site's classes are wrong"


def class_of(where: str, value: Any, task: Task) -> int:
    """Return the class that is written as a name of the task's, in any case, or as its number.

    Args:
        where: its place, in words.
        value: what is written.
        task: the site's.

    Raises:
        DataError: it is none.
    """
    names = {name.casefold(): label for label, name in enumerate(task.classes)}
    text = str(value).strip()
    label = names.get(text.casefold(), int(text) if text.isdecimal() else -1)
    if isinstance(value, bool) or not 0 <= label < task.n_classes:
        raise DataError(
            f"{where}: {value!r} is no class of task {task.name}{closest(text, list(task.classes))} (known: "
            f"{', '.join(task.classes)}, or 0 to {task.n_classes - 1})",
            public=_PUBLIC,
        )
    return label


def classes_of_cases(
    root: Path, description: Mapping[str, Any], table: str | None, task: Task
) -> tuple[dict[str, int], Path]:
    """Return each case's class, and the file that tells them.

    Args:
        root: folder of the set.
        description: ``dataset.json``; ``classes`` in it may tell them, such as ``{"case_1": "NOR"}``.
        table: a CSV file below ``root``, as the site file names it; by default :data:`TABLE`, where
            ``dataset.json`` tells none.
        task: the site's.

    Raises:
        DataError: nothing tells them, the table is wrong, or a value is no class.
    """
    told = description.get("classes")
    if table is not None or told is None:
        path = root / (table or TABLE)
        rows = _read_table(path)
    else:
        path = root / "dataset.json"
        if not isinstance(told, dict) or not told:
            raise DataError(
                f'{path}: "classes" must tell the class of each case, such as '
                f'{{"case_1": "{task.classes[0]}"}}',
                public=_PUBLIC,
            )
        rows = told
    found = {same_form(case): class_of(f"{path}: '{case}'", value, task) for case, value in rows.items()}
    return found, path


def with_classes(cases: list[str], classes: Mapping[str, int], path: Path) -> list[str]:
    """Check that every case has a class; return in words how many of the table's have no image.

    Raises:
        DataError: a case has none.
    """
    for case in cases:
        if case not in classes:
            raise DataError(f"{path}: tells no class of '{case}'; add it or remove its image", public=_PUBLIC)
    more = len(classes) - len(cases)
    words = count(more, "case is", "cases are")
    return [f"{path}: {words} told a class and have no image"] * (more > 0)


def _read_table(path: Path) -> dict[str, str]:
    try:
        stream = io.StringIO(read_bytes(path).decode("utf-8-sig"), newline="")
        table = list(csv.DictReader(stream))
    except FileNotFoundError:
        raise DataError(
            f"{path}: it does not exist; a task of classes needs a table with the columns '{_CASE}' and "
            f"'{_CLASS}', or 'classes' in dataset.json",
            public=_PUBLIC,
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})", public=_PUBLIC) from None
    columns = list(table[0]) if table else []
    others = [name for name in columns if name != _CASE]
    column = _CLASS if _CLASS in others else others[0] if len(others) == 1 else None
    if _CASE not in columns or column is None:
        raise DataError(
            f"{path}: must have the columns '{_CASE}' and '{_CLASS}' (it has {', '.join(map(str, columns))})",
            public=_PUBLIC,
        )
    found: dict[str, str] = {}
    for row in table:
        case, value = (row[_CASE] or "").strip(), (row[column] or "").strip()
        if not case or not value or found.setdefault(case, value) != value:
            raise DataError(
                f"{path}: a row lacks '{_CASE}' or '{column}', or tells a case a second class: {row}",
                public=_PUBLIC,
            )
    return found
