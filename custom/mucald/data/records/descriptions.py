"""What data lists and ``dataset.json`` say of a set: sections, entries and labels."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mucald.config.schema import closest, read_json
from mucald.data.files import count, reading
from mucald.data.images.stored import IMAGE_ENDINGS
from mucald.errors import ConfigError, DataError
from mucald.tasks import Task

SECTIONS = {"training": "train", "validation": "validation", "test": "test", "testing": "test"}

_KEYS = ("image", "label", "case", "outline")
_PUBLIC = "the site's image set does not have the layout that site.json names"


@dataclass(frozen=True)
class Entry:
    """An entry of a data list.

    Args:
        where: its place, in words.
        images: names of the image file, or of one per channel.
        label: name of its mask; of a task of classes its class.
        case: its patient, or else the image's name.
        split: where it trains or tests.
        outline: whether the mask may be a closed line.
    """

    where: str
    images: tuple[str, ...]
    label: str | int
    case: str
    split: str
    outline: bool


def read_description(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file is missing, or is no JSON object.
    """
    try:
        with reading(path):
            return read_json(path)
    except ConfigError as error:
        raise DataError(f"{path}: {error}", public=_PUBLIC) from None


def read_entries(
    path: Path, content: Mapping[str, Any], classes: bool = False
) -> tuple[list[Entry], list[str]]:
    """Return the entries of a MONAI data list, and which keys of theirs are not read.

    Args:
        path: the list.
        content: of the list.
        classes: whether labels are classes, by name or number, rather than masks.

    Raises:
        DataError: a section is unknown or no list, an entry lacks a file or has a value of the wrong type, or
            entries differ in their number of channels.
    """
    unused = []
    for key, value in content.items():
        if key in SECTIONS or not isinstance(value, list | dict) or not value:
            continue
        near = _nearest(key)
        if near or _holds_entries(value):
            known = ", ".join(SECTIONS)
            raise DataError(f"{path}: unknown section '{key}'{near} (known: {known})", public=_PUBLIC)
        if isinstance(value, list) and key != "labels":
            unused.append(f"{path}: '{key}' is not read ({count(len(value), 'value', 'values')})")
    entries: list[Entry] = []
    unread: dict[str, int] = {}
    for section, split in SECTIONS.items():
        listed = content.get(section) or []
        if not isinstance(listed, list):
            raise DataError(f"{path}: '{section}' must be a list of images with labels", public=_PUBLIC)
        for index, value in enumerate(listed):
            entries.append(_entry(f"{path}: {section}[{index}]", value, split, classes))
            for key in value.keys() - set(_KEYS):
                unread[key] = unread.get(key, 0) + 1
    for entry in entries:
        own, first = len(entry.images), len(entries[0].images)
        if own != first:
            raise DataError(
                f"{entry.where} has {count(own, 'channel', 'channels')}, {entries[0].where} {first}; name "
                "the same channels for every image",
                public="images of a set differ in their channels",
            )
    return entries, unused + [
        f"the key '{key}' of {count(number, 'entry', 'entries')} is not read"
        for key, number in sorted(unread.items())
    ]


def _holds_entries(value: list[Any] | dict[str, Any]) -> bool:
    """Return whether images may be listed in it, as a list, by their names or by folds."""
    if isinstance(value, list):
        return any(isinstance(one, dict | list) for one in value)
    known = {"image", "label", *SECTIONS}
    return any(isinstance(one, dict) and known & one.keys() for one in (value, *value.values())) or any(
        isinstance(one, list) and _holds_entries(one) for one in value.values()
    )


def _entry(where: str, value: Any, split: str, classes: bool) -> Entry:
    images = value.get("image") if isinstance(value, dict) else None
    names: list[Any] = images if isinstance(images, list) else [images]
    label = _label(value)
    told = [*names, str(label) if classes and type(label) is int else label]
    if not names or not all(isinstance(name, str) and name for name in told):
        raise DataError(
            f"{where} must have 'image' and 'label', each a file's name (or 'image' a list of them, one per "
            "channel); leave out what is unlabelled",
            public=_PUBLIC,
        )
    for key in value.keys() - set(_KEYS):
        if hint := closest(key, list(_KEYS)):
            raise DataError(f"{where}: unknown key '{key}'{hint}", public=_PUBLIC)
    case, outline = value.get("case"), value.get("outline", False)
    if not isinstance(case, str | int | None) or case == "" or not isinstance(outline, bool):
        raise DataError(
            f"{where}: 'case' must be a text or a number, 'outline' true or false", public=_PUBLIC
        )
    return Entry(where, tuple(names), label, str(names[0] if case is None else case), split, outline)


def _label(value: Any) -> Any:
    return value.get("label") if isinstance(value, dict) else None


def _nearest(key: str) -> str:
    shortened = [name for name in SECTIONS if name.startswith(key.lower()[:3])]
    return f"; did you mean '{shortened[0]}'?" if shortened else closest(key, list(SECTIONS))


def check_labels(path: Path, labels: Any, task: Task, all_ids: bool) -> list[str]:
    """Check a description's labels: ``{"background": 0}``, ``{"0": "background"}`` or ``["background"]``.

    Returns which label is taken for which class, in words, where the task knows none by its name.

    Args:
        path: the description.
        labels: what it says.
        task: the site's task.
        all_ids: whether they must be all classes of the task; otherwise only a class that the task knows by
            this name must have its number.

    Raises:
        DataError: they do not fit.
    """
    ids = _label_ids(labels)
    if ids is None and not all_ids:
        raise DataError(
            f"{path}: 'labels' must tell one number for each name, such as {{\"{task.classes[-1]}\": "
            f"{task.n_classes - 1}}}; correct it, or map the values with 'mask_values' in site.json",
            public=_PUBLIC,
        )
    if all_ids and (ids is None or sorted(ids.values()) != list(range(task.n_classes))):
        raise DataError(
            f"{path}: 'labels' must be the ids 0 to {task.n_classes - 1} of task {task.name} "
            f"({', '.join(task.classes)}); if they are not, map them with 'mask_values' in site.json",
            public=_PUBLIC,
        )
    classes = {title.casefold(): label for label, title in enumerate(task.classes)}
    taken = []
    for name, number in (ids or {}).items():
        known = classes.get(name.casefold().replace("_", " "))
        if known not in (None, number):
            raise DataError(
                f"{path}: '{name}' is {number} in 'labels' and {known} in task {task.name}; map the values "
                f"with 'mask_values' in site.json, such as {{\"{number}\": {known}}}",
                public=_PUBLIC,
            )
        if known is None and 0 <= number < task.n_classes:
            taken.append(
                f"{path}: '{name}' ({number} in 'labels') is taken for '{task.classes[number]}' of task "
                f"{task.name}"
            )
    return taken


def _label_ids(labels: Any) -> dict[str, int] | None:
    """Class ids by name; None where they have none of the forms, such as regions of nnU-Net."""
    if isinstance(labels, list):
        labels = {str(number): name for number, name in enumerate(labels)}
    if not isinstance(labels, dict):
        return None
    if all(key.isdecimal() and isinstance(name, str) for key, name in labels.items()):
        labels = {name: int(key) for key, name in labels.items()}
    return labels if all(type(number) is int for number in labels.values()) else None


def check_ending(path: Path, description: Mapping[str, Any]) -> str:
    """Return the ending of an nnU-Net set's files, which is ``.nii.gz`` where the description has none.

    Raises:
        DataError: it is no ending of an image.
    """
    ending = description.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or ending.lower() not in IMAGE_ENDINGS:
        near = f"; did you mean '.{ending}'?" if f".{ending}" in IMAGE_ENDINGS else ""
        raise DataError(
            f"{path}: 'file_ending' must be one of {', '.join(IMAGE_ENDINGS)}, not {ending!r}{near}",
            public=_PUBLIC,
        )
    return ending


def other_count(path: Path, description: Mapping[str, Any], found: int) -> list[str]:
    """Say where ``numTraining`` or the list ``training`` of a description tells other training cases."""
    listed, numbers = description.get("training"), [description.get("numTraining", found)]
    if isinstance(listed, list) and len(listed) not in numbers:
        numbers.append(len(listed))
    there = f"{count(found, 'is', 'are')} there and read"
    return [f"{path} tells {told} training cases; {there}" for told in numbers if told != found]


def validation_cases(path: Path, description: Mapping[str, Any], cases: Collection[str]) -> frozenset[str]:
    """Return the cases that ``preset_validation`` of a description names, to validate by; none without it.

    Raises:
        DataError: it is no list of the set's cases.
    """
    named = description.get("preset_validation") or []
    if not isinstance(named, list) or not set(map(str, named)) <= set(cases):
        unknown = sorted(set(map(str, named)) - set(cases)) if isinstance(named, list) else [named]
        raise DataError(
            f"{path}: 'preset_validation' must name cases of imagesTr/, not {unknown[0]!r}", public=_PUBLIC
        )
    return frozenset(map(str, named))


def check_own_files(path: Path, description: Mapping[str, Any]) -> None:
    """Check that the cases of an nnU-Net set are the files of its folders.

    Raises:
        DataError: the description lists its cases, as nnU-Net v2 may.
    """
    if description.get("dataset"):
        raise DataError(
            f"{path}: 'dataset' lists the cases, which is not read; write a data list instead, or remove "
            "'dataset' to take all of imagesTr/",
            public=_PUBLIC,
        )
