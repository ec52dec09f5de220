"""Where the images and masks of a site lie: a registry of layouts, each a small function that lists records.

A new layout is one function and one entry of :data:`LAYOUTS`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mucald.config.schema import closest
from mucald.data.files import alike, count, reading, same_form, unused_in
from mucald.data.images.pictures import RGB_CHANNELS
from mucald.data.images.stored import IMAGE_ENDINGS
from mucald.data.records.channels import check_channels, check_modality
from mucald.data.records.classes import class_of, classes_of_cases, with_classes
from mucald.data.records.descriptions import (
    check_ending,
    check_labels,
    check_own_files,
    other_count,
    read_description,
    read_entries,
    validation_cases,
)
from mucald.data.records.regions import has_regions, region_values
from mucald.data.records.unused import folders_beside, unlisted, unused_folders
from mucald.data.site_file import SiteFile
from mucald.errors import DataError
from mucald.tasks import get_task

SPLITS = ("train", "validation", "test")

_IMAGE = "(?:" + "|".join(map(re.escape, IMAGE_ENDINGS)) + ")"
_PUBLIC = "the site's image set does not have the layout that site.json names"


@dataclass(frozen=True)
class Record:
    """One image file with its mask.

    Args:
        images: the image file, or one file per channel.
        mask: the file of its mask, or the one that tells its class.
        case: the patient or volume; the records of a case stay in one split.
        split: the split that the layout puts it into; ``train`` where the layout knows none.
        outline: the mask may be a closed line instead of an area.
        colour: the image file must hold colours.
        label: its class, in tasks whose samples have one.
    """

    images: tuple[Path, ...]
    mask: Path
    case: str
    split: str = "train"
    outline: bool = False
    colour: bool = False
    label: int | None = None


@dataclass(frozen=True)
class ImageSet:
    """What a site file names.

    Args:
        records: the images, sorted by name.
        unused: what lies beside them or is said of them and is not used, without patients' names.
    """

    records: list[Record]
    unused: list[str]


Found = tuple[list[Record], list[str]]


def find_set(site_file: SiteFile) -> ImageSet:
    """List the images of a site, and what of their folders or list is not used.

    Raises:
        DataError: the layout is unknown, a folder or file is missing, an image lacks a mask, a mask its image
            or an image a channel, or nothing was found.
    """
    if site_file.datalist is not None:
        records, unused = _datalist(Path(site_file.datalist), site_file)
    else:
        layout = site_file.layout or ""
        if layout not in LAYOUTS:
            hint = f"{closest(layout, list(LAYOUTS))} (known: {', '.join(LAYOUTS)})"
            raise DataError(f"site.json: unknown layout '{layout}'{hint}", public=_PUBLIC)
        records, unused = LAYOUTS[layout](Path(site_file.root or ""), site_file)
    if not records:
        where, rest = site_file.datalist or site_file.root, "".join(f"; {words}" for words in unused)
        mend = "check 'root' and 'layout' in site.json"
        if site_file.datalist is not None:
            mend = "it must list them under 'training', each with 'image' and 'label'"
        raise DataError(f"{where}: no images found; {mend}{rest}", public=_PUBLIC)
    for record in records:
        if record.mask in record.images:
            raise DataError(f"{record.mask}: image and mask are one file", public=_PUBLIC)
    if site_file.case_pattern is not None:
        records = [replace(record, case=_case(record.case, site_file.case_pattern)) for record in records]
    if site_file.case_pattern is not None or site_file.datalist is not None:
        check_cases(records)
    if get_task(site_file.task).input == "image":
        more = sum(len(record.images) > RGB_CHANNELS for record in records)
        words = count(more, "image has", "images have")
        unused += [f"{words} more than three channels, of which the first three are read"] * (more > 0)
    return ImageSet(records, unused)


def find_records(site_file: SiteFile) -> list[Record]:
    """Return the records of :func:`find_set`."""
    return find_set(site_file).records


def _pairs(root: Path, site_file: SiteFile) -> Found:
    """Two folders whose files match by name without ending."""
    name = rf"([^.].*?){_IMAGE}"
    return _paired(root, site_file.images, name, site_file.masks, name)


def _isic(root: Path, site_file: SiteFile) -> Found:
    """ISIC archive and HAM10000: ``ISIC_<n>.jpg`` and ``ISIC_<n>_segmentation.png``."""
    image, mask = r"(ISIC_\d+)\.(?:jpe?g|png)", r"(ISIC_\d+)_segmentation\.png"
    return _paired(root, site_file.images, image, site_file.masks, mask)


def _hc18(root: Path, _site_file: SiteFile) -> Found:
    """HC18 challenge: ``training_set/<n>_HC.png``, ``<n>_2HC.png``, ..., and ``<n>_HC_Annotation.png``.

    The number is the pregnancy, hence the case. The annotations are published as drawn outlines.
    """
    image, mask = r"(\d+_\d*HC)\.png", r"(\d+_\d*HC)_Annotation\.png"
    records, unused = _paired(root / "training_set", ".", image, ".", mask)
    records = [replace(r, case=r.case.split("_")[0], outline=True) for r in records]
    return records, unused + unused_folders(root, "test_set")


def _nnunet(root: Path, site_file: SiteFile) -> Found:
    """nnU-Net raw: ``imagesTr/<case>_<channel>``, ``labelsTr/<case>``.

    ``dataset.json`` tells the labels, the channels, the files' ending and cases to validate by; of a task of
    classes it or a table tells each case's.
    """
    path, task = root / "dataset.json", get_task(site_file.task)
    description = read_description(path)
    check_own_files(path, description)
    if task.input == "volume":
        check_modality(path, description, task)
    ending = re.escape(check_ending(path, description))
    files, other_images = _files(root / "imagesTr", rf"([^.].*_\d{{4}}){ending}")
    channels: dict[str, dict[str, Path]] = {}
    for name in sorted(files):
        channels.setdefault(name[: -len("_0000")], {})[name[-len("0000") :]] = files[name]
    colour = check_channels(path, description, channels)
    images = {case: tuple(found.values()) for case, found in channels.items()}
    if task.target == "class":
        classes, teller = classes_of_cases(root, description, site_file.classes, task)
        unused = with_classes(list(images), classes, teller) + unused_in(root / "imagesTr", other_images)
        records = [Record(own, teller, case, label=classes[case]) for case, own in sorted(images.items())]
    else:
        unused = _check_labels(path, description, site_file) + unused_in(root / "imagesTr", other_images)
        masks, other_masks = _files(root / "labelsTr", rf"([^.].*){ending}")
        records = _matched(images, masks)
        unused += unused_in(root / "labelsTr", other_masks)
    unused += unused_folders(root, r"(?:images|labels)(?!Tr$).*")
    unused += other_count(path, description, len(records))
    chosen = validation_cases(path, description, images)
    return [
        replace(record, colour=colour, split="validation" if record.case in chosen else "train")
        for record in records
    ], unused


def _check_labels(path: Path, description: Mapping[str, Any], site_file: SiteFile) -> list[str]:
    task = get_task(site_file.task)
    if site_file.mask_values:
        return []
    if task.input == "volume" and has_regions(description):
        region_values(path, description, task)
        return []
    return check_labels(path, description.get("labels"), task, all_ids=True)


LAYOUTS: dict[str, Callable[[Path, SiteFile], Found]] = {
    "pairs": _pairs,
    "isic": _isic,
    "nnunet": _nnunet,
    "hc18": _hc18,
}


def _datalist(path: Path, site_file: SiteFile) -> Found:
    """MONAI data list: ``{"training": [{"image": ..., "label": ...}], "validation": [...], "test": [...]}``.

    ``image`` may be a list with one file per channel; an entry may name its patient as ``case``, and say with
    ``"outline": true`` that its label may be a closed line instead of an area.
    """
    description, task = read_description(path), get_task(site_file.task)
    if task.input == "volume":
        check_modality(path, description, task)
    labels = []
    if description.get("labels") is not None and not site_file.mask_values and task.target == "mask":
        labels = check_labels(path, description["labels"], task, all_ids=False)
    entries, unused = read_entries(path, description, classes=task.target == "class")
    records = []
    for entry in entries:
        # A class stands in the list itself.
        label = class_of(entry.where, entry.label, task) if task.target == "class" else None
        mask = path if label is not None else path.parent / str(entry.label)
        images = tuple(path.parent / name for name in entry.images)
        for file in (*images, mask):
            with reading(file):
                if not file.is_file():
                    what = "is no regular file" if file.exists() else "does not exist"
                    raise DataError(f"{entry.where}: {file} {what}", public=_PUBLIC)
        records.append(Record(images, mask, entry.case, entry.split, entry.outline, label=label))
    again = len(records) - len({record.mask for record in records})
    again = 0 if task.target == "class" else again
    words = count(again, "image has", "images have")
    unused += [f"{words} the label of another image"] * (again > 0)
    training = sum(record.split == "train" for record in records)
    unused += other_count(path, description, training)
    files = [file for record in records for file in (*record.images, record.mask) if file != path]
    return records, labels + unused + unlisted(path, files)


def _files(folder: Path, pattern: str) -> tuple[dict[str, Path], list[str]]:
    """The files of a folder whose whole name matches, by the pattern's first group, and the other names."""
    with reading(folder):
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder; check 'root' and 'layout' in site.json", public=_PUBLIC
            )
        paths = sorted(folder.iterdir())
    found: dict[str, Path] = {}
    others = []
    for path in paths:
        match = re.fullmatch(pattern, path.name, re.IGNORECASE | re.DOTALL)
        if not match or path.is_dir():
            others.append(path.name + "/" * path.is_dir())
            continue
        name = same_form(match[1])
        if name in found:
            raise DataError(f"{path}: {found[name].name} has the same name; remove one", public=_PUBLIC)
        found[name] = path
    return found, others


def _paired(root: Path, image_folder: str, image: str, mask_folder: str, mask: str) -> Found:
    images, masks = root / image_folder, root / mask_folder
    found, other_images = _files(images, image)
    labels, other_masks = _files(masks, mask)
    records = _matched({name: (path,) for name, path in found.items()}, labels)
    if images == masks:
        used = {path.name for path in (*found.values(), *labels.values())}
        return records, unused_in(images, [name for name in other_images if name not in used])
    unused = unused_in(images, other_images) + unused_in(masks, other_masks)
    where = f"beside {image_folder}/ and {mask_folder}/"
    return records, unused + folders_beside(root, (images, masks), where, within=False)


def _matched(images: Mapping[str, tuple[Path, ...]], masks: Mapping[str, Path]) -> list[Record]:
    for name in sorted(images.keys() ^ masks.keys()):
        lacking, having = ("mask", "image") if name in images else ("image", "mask")
        file = images[name][0] if name in images else masks[name]
        raise DataError(f"{file}: '{name}' has no {lacking}; add it or remove the {having}", public=_PUBLIC)
    return [Record(images[name], mask, case=name) for name, mask in sorted(masks.items())]


def _case(name: str, pattern: str) -> str:
    match = re.search(pattern, name)
    # A group that takes no part, or nothing, would put strangers together.
    if match is None or not match[1]:
        raise DataError(f"site.json: 'case_pattern' does not match '{name}'", public=_PUBLIC)
    return match[1]


def check_cases(records: Sequence[Record]) -> None:
    """Check that no patient is written in two ways, so that one might lie in two splits.

    Raises:
        DataError: one is.
    """
    written: dict[str, str] = {}
    for record in records:
        first = written.setdefault(alike(record.case), record.case)
        if first != record.case:
            raise DataError(
                f"the patients {first!r} and {record.case!r} differ only in case, spaces or Unicode form; "
                "write each in one way",
                public="a patient is written in two ways",
            )
