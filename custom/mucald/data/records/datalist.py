"""Write a site's images as a MONAI data list whose splits share no patient."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mucald.data.records.layouts import SPLITS, Record
from mucald.tasks import Task

_SECTIONS = {"train": "training", "validation": "validation", "test": "test"}


def build_datalist(splits: Mapping[str, Sequence[Record]], task: Task, folder: Path) -> dict[str, Any]:
    """Return a MONAI data list, as :mod:`mucald.data.records.layouts` reads it.

    Args:
        splits: records by split.
        task: the site's task.
        folder: where the list will lie; paths below it are relative to it, others absolute.
    """

    def name(path: Path) -> str:
        # A link is named, and not what it leads to: a store of links has names without endings.
        own, base = path.parent.resolve() / path.name, folder.resolve()
        return str(own.relative_to(base) if own.is_relative_to(base) else own)

    def entry(record: Record) -> dict[str, Any]:
        images = [name(path) for path in record.images]
        found: dict[str, Any] = {"image": images if len(images) > 1 else images[0]}
        label = name(record.mask) if record.label is None else task.classes[record.label]
        found |= {"label": label, "case": record.case}
        return found | ({"outline": True} if record.outline else {})

    labels = {str(label): title for label, title in enumerate(task.classes)}
    lists = {_SECTIONS[split]: [entry(record) for record in splits[split]] for split in SPLITS}
    return {"name": task.title, "labels": labels, **lists}
