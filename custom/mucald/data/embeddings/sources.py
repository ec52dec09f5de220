"""Where the images to embed lie, with their classes: one small function for each way that sets are kept."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mucald.data.embeddings.sets import Header
from mucald.data.files import reading
from mucald.data.images.readers import read_image
from mucald.data.images.stored import IMAGE_ENDINGS
from mucald.data.records.descriptions import read_description, read_entries
from mucald.data.records.layouts import SPLITS
from mucald.errors import DataError
from mucald.tasks import Task

Pixels = NDArray[np.uint8]
_PUBLIC = "the site's images do not lie as was said"


@dataclass(frozen=True)
class Source:
    """Images to embed.

    Args:
        labels: class of each.
        read: returns an image (uint8, H x W x 3) by its number.
        cases: patient of each; empty where nobody knows.
        splits: 0 to train, 1 to validate, 2 to test; empty where nothing is told.
        groups: further labels by name, one for each image.
    """

    labels: list[int]
    read: Callable[[int], Pixels]
    cases: list[str] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    groups: Mapping[str, list[str]] = field(default_factory=dict)


def _of_files(files: list[Path]) -> Callable[[int], Pixels]:
    def read(number: int) -> Pixels:
        pixels = read_image((files[number],)).pixels
        if len(pixels) != 1:
            raise DataError(f"{files[number]}: has {len(pixels)} slices; give single images", public=_PUBLIC)
        return pixels[0]

    return read


def _unknown(where: Path, task: Task, wrong: list[str]) -> DataError:
    """Return the error that names all words that are no class at once."""
    options = " ".join(f"--class '{name}=NAME'" for name in wrong)
    return DataError(
        f"{where}: the classes of task {task.name} are {', '.join(task.classes)}; say which is "
        f"meant: {options}",
        public=_PUBLIC,
    )


def folders(root: Path, task: Task, names: Mapping[str, str]) -> Source:
    """A folder for each class; ``names`` tells the class of a folder that is called otherwise."""
    files, labels = list[Path](), list[int]()
    with reading(root):
        found = sorted(path for path in root.iterdir() if path.is_dir())
    titles = {folder: names.get(folder.name, folder.name) for folder in found}
    if wrong := [folder.name for folder, title in titles.items() if title not in task.classes]:
        raise _unknown(root, task, wrong)
    for folder, title in titles.items():
        own = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS)
        files += own
        labels += [task.classes.index(title)] * len(own)
    return Source(labels, _of_files(files))


def table(root: Path, task: Task, names: Mapping[str, str]) -> Source:
    """A file ``classes.csv`` of ``file,class`` without a header beside the images."""
    path = root / "classes.csv"
    with reading(path), path.open(encoding="utf-8-sig", newline="") as stream:
        rows = [row for row in csv.reader(stream) if row]
    told = [row[1] if len(row) > 1 else "" for row in rows]
    titles = [names.get(name, name) for name in told]
    if wrong := sorted({n for n, title in zip(told, titles, strict=True) if title not in task.classes}):
        raise _unknown(path, task, wrong)
    labels = [task.classes.index(title) for title in titles]
    return Source(labels, _of_files([root / row[0] for row in rows]))


def medmnist(root: Path, task: Task, names: Mapping[str, str]) -> Source:  # noqa: ARG001 - it has numbers
    """A MedMNIST or MedMNIST+ file ``.npz`` with its own splits (Yang et al., Scientific Data 2023)."""
    with reading(root), np.load(root) as arrays:
        parts = [(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in ("train", "val", "test")]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels.reshape(-1) for _, labels in parts]).astype(int)
    splits = [number for number, (_, own) in enumerate(parts) for _ in own]
    if labels.min() < 0 or labels.max() >= task.n_classes:
        raise DataError(f"{root}: has other classes than task {task.name}", public=_PUBLIC)

    def read(number: int) -> Pixels:
        image = images[number]
        return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image

    return Source(labels.tolist(), read, splits=splits)


def camelyon17(root: Path, task: Task, names: Mapping[str, str]) -> Source:  # noqa: ARG001 - it has numbers
    """WILDS' Camelyon17: ``metadata.csv`` and ``patches/``, with the hospital of each patch."""
    path = root / "metadata.csv"
    with reading(path), path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    files, labels, hospitals = [], [], []
    for row in rows:
        try:
            folder = f"patient_{row['patient']}_node_{row['node']}"
            name = f"patch_{folder}_x_{row['x_coord']}_y_{row['y_coord']}.png"
            files.append(root / "patches" / folder / name)
            told, hospital = row["tumor"], row["center"]
        except KeyError as error:
            raise DataError(f"{path}: no column {error}; copy WILDS' own file", public=_PUBLIC) from None
        if told not in map(str, range(task.n_classes)):
            raise DataError(f"{path}: tumor is '{told}', no class of task {task.name}", public=_PUBLIC)
        labels.append(int(told))
        hospitals.append(hospital)
    cases = [row["patient"] for row in rows]
    return Source(labels, _of_files(files), cases, groups={"hospital": hospitals})


def datalist(root: Path, task: Task, names: Mapping[str, str]) -> Source:
    """A MONAI data list whose ``label`` is a class's name or number, and ``case`` the patient."""
    entries, _ = read_entries(root, read_description(root), classes=True)
    labels = list[int]()
    for entry in entries:
        title = names.get(str(entry.label), entry.label)
        label = task.classes.index(title) if title in task.classes else title
        if len(entry.images) > 1:
            raise DataError(f"{entry.where}: must name one image, not several", public=_PUBLIC)
        if type(label) is not int or not 0 <= label < task.n_classes:
            raise DataError(
                f"{entry.where}: must name a class of task {task.name} "
                f"({', '.join(task.classes)}), not '{title}'; add --class '{title}=NAME'",
                public=_PUBLIC,
            )
        labels.append(label)
    files, splits = [root.parent / entry.images[0] for entry in entries], [e.split for e in entries]
    told = [SPLITS.index(split) for split in splits] if set(splits) == set(SPLITS) else []
    return Source(labels, _of_files(files), [entry.case for entry in entries], told)


SOURCES: dict[str, Callable[[Path, Task, Mapping[str, str]], Source]] = {
    "folders": folders,
    "table": table,
    "medmnist": medmnist,
    "camelyon17": camelyon17,
    "datalist": datalist,
}


def header_of(source: Source, task: Task, backbone: str, weights: str, preprocessing: str) -> Header:
    """Return the header of a source's embeddings."""
    groups = {name: tuple(values) for name, values in source.groups.items()}
    return Header(backbone, weights, preprocessing, task.classes, tuple(source.cases), groups)
