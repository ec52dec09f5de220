"""Write a site's images as a MONAI data list whose splits share no patient."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mucald.data.images.readers import read_image
from mucald.data.layouts import SPLITS, Record
from mucald.data.patients import content_hash, copies
from mucald.errors import DataError
from mucald.tasks import Task

_SECTIONS = {"train": "training", "validation": "validation", "test": "test"}
_PUBLIC = "images of two splits are the same"


def check_copies(splits: Mapping[str, Sequence[Record]]) -> None:
    """Check that no image lies in two splits under different names, which is a patient in both.

    Raises:
        DataError: naming the two, or an image that cannot be read.
    """
    split_of: dict[str, str] = {}
    hashes = []
    for split, records in splits.items():
        for record in records:
            name = str(record.images[0])
            split_of[name] = split
            hashes.append((name, content_hash(read_image(record.images))))
    for names in copies(hashes):
        for name in names[1:]:
            if split_of[name] != split_of[names[0]]:
                raise DataError(
                    f"{names[0]} ('{split_of[names[0]]}') and {name} ('{split_of[name]}') are the same image "
                    "in two splits; remove one, or give both one patient",
                    public=_PUBLIC,
                )


def build_datalist(splits: Mapping[str, Sequence[Record]], task: Task, folder: Path) -> dict[str, Any]:
    """Return a MONAI data list, as :mod:`mucald.data.layouts` reads it.

    Args:
        splits: records by split.
        task: the site's task.
        folder: where the list will lie; paths below it are relative to it, others absolute.
    """

    def name(path: Path) -> str:
        resolved = path.resolve()
        inside = resolved.is_relative_to(folder.resolve())
        return str(resolved.relative_to(folder.resolve()) if inside else resolved)

    def entry(record: Record) -> dict[str, Any]:
        images = [name(path) for path in record.images]
        found: dict[str, Any] = {"image": images if len(images) > 1 else images[0]}
        found |= {"label": name(record.mask), "case": record.case}
        return found | ({"outline": True} if record.outline else {})

    labels = {str(label): title for label, title in enumerate(task.classes)}
    lists = {_SECTIONS[split]: [entry(record) for record in splits[split]] for split in SPLITS}
    return {"name": task.title, "labels": labels, **lists}
