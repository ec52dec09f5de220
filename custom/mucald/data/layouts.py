"""Where the images and masks of a site lie: a registry of layouts, each a small function that lists records.

A new layout is one function and one entry of :data:`LAYOUTS`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mucald.config.schema import closest, read_json
from mucald.data.site_file import SiteFile
from mucald.errors import ConfigError, DataError
from mucald.tasks import get_task

SPLITS = ("train", "validation", "test")
DATALIST_SECTIONS = {"training": "train", "validation": "validation", "test": "test", "testing": "test"}

_PICTURE = r"(?:png|jpe?g|bmp|tiff?|nii|nii\.gz)"
_PUBLIC = "the site's image set does not have the layout that site.json names"


@dataclass(frozen=True)
class Record:
    """One image file with its mask.

    Args:
        images: the image file, or one file per channel.
        mask: the file of its mask.
        case: the patient or volume; the records of a case stay in one split.
        split: the split that the layout puts it into; ``train`` where the layout knows none.
        outline: the mask may be a closed line instead of an area.
    """

    images: tuple[Path, ...]
    mask: Path
    case: str
    split: str = "train"
    outline: bool = False


def find_records(site_file: SiteFile) -> list[Record]:
    """List the images of a site, sorted by name.

    Raises:
        DataError: the layout is unknown, a folder or file is missing, an image lacks a mask or a mask its
            image, or nothing was found.
    """
    if site_file.datalist is not None:
        records = _datalist(Path(site_file.datalist))
    else:
        layout = site_file.layout or ""
        if layout not in LAYOUTS:
            hint = f"{closest(layout, list(LAYOUTS))} (known: {', '.join(LAYOUTS)})"
            raise DataError(f"site.json: unknown layout '{layout}'{hint}", public=_PUBLIC)
        records = LAYOUTS[layout](Path(site_file.root or ""), site_file)
    if not records:
        where = site_file.datalist or site_file.root
        raise DataError(f"{where}: no images found; check 'root' and 'layout' in site.json", public=_PUBLIC)
    if site_file.case_pattern is not None:
        records = [replace(record, case=_case(record.case, site_file.case_pattern)) for record in records]
    return records


def _pairs(root: Path, site_file: SiteFile) -> list[Record]:
    """Two folders whose files match by name without ending."""
    name = rf"([^.].*?)\.{_PICTURE}"
    return _paired(_files(root / site_file.images, name), _files(root / site_file.masks, name))


def _isic(root: Path, site_file: SiteFile) -> list[Record]:
    """ISIC archive and HAM10000: ``ISIC_<n>.jpg`` and ``ISIC_<n>_segmentation.png``."""
    images = _files(root / site_file.images, r"(ISIC_\d+)\.(?:jpe?g|png)")
    return _paired(images, _files(root / site_file.masks, r"(ISIC_\d+)_segmentation\.png"))


def _hc18(root: Path, _site_file: SiteFile) -> list[Record]:
    """HC18 challenge: ``training_set/<n>_HC.png``, ``<n>_2HC.png``, ..., and ``<n>_HC_Annotation.png``.

    The number is the pregnancy, hence the case. The annotations are published as drawn outlines.
    """
    images = _files(root / "training_set", r"(\d+_\d*HC)\.png")
    masks = _files(root / "training_set", r"(\d+_\d*HC)_Annotation\.png")
    return [replace(r, case=r.case.split("_")[0], outline=True) for r in _paired(images, masks)]


def _nnunet(root: Path, site_file: SiteFile) -> list[Record]:
    """nnU-Net raw: ``imagesTr/<case>_<channel>``, ``labelsTr/<case>``.

    ``dataset.json`` tells the labels and the files' ending.
    """
    description = _json(root / "dataset.json")
    ending = re.escape(str(description.get("file_ending", ".nii.gz")))
    if not site_file.mask_values:
        _check_labels(root / "dataset.json", description.get("labels"), site_file)
    files = _files(root / "imagesTr", rf"([^.].*_\d{{4}}){ending}")
    channels: dict[str, list[Path]] = {}
    for name in sorted(files):
        channels.setdefault(name[: -len("_0000")], []).append(files[name])
    images = {case: tuple(paths) for case, paths in channels.items()}
    return _paired(images, _files(root / "labelsTr", rf"([^.].*){ending}"))


LAYOUTS: dict[str, Callable[[Path, SiteFile], list[Record]]] = {
    "pairs": _pairs,
    "isic": _isic,
    "nnunet": _nnunet,
    "hc18": _hc18,
}


def _datalist(path: Path) -> list[Record]:
    """MONAI data list: ``{"training": [{"image": ..., "label": ...}], "validation": [...], "test": [...]}``.

    ``image`` may be a list with one file per channel; an entry may name its patient as ``case``, and say with
    ``"outline": true`` that its label may be a closed line instead of an area.
    """
    content = _json(path)
    records = []
    for section, split in DATALIST_SECTIONS.items():
        for index, entry in enumerate(content.get(section) or []):
            where = f"{path}: {section}[{index}]"
            if not isinstance(entry, dict) or not {"image", "label"} <= entry.keys():
                raise DataError(
                    f"{where} must have 'image' and 'label'; leave out what is unlabelled", public=_PUBLIC
                )
            names = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
            images = tuple(path.parent / str(name) for name in names)
            mask = path.parent / str(entry["label"])
            for file in (*images, mask):
                if not file.is_file():
                    raise DataError(f"{where}: {file} does not exist", public=_PUBLIC)
            case, outline = str(entry.get("case", names[0])), entry.get("outline") is True
            records.append(Record(images, mask, case, split, outline))
    return records


def _files(folder: Path, pattern: str) -> dict[str, Path]:
    """The files of a folder whose whole name matches, by the pattern's first group."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check 'root' and 'layout' in site.json", public=_PUBLIC)
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(pattern, path.name, re.IGNORECASE)
        if match and match[1] in found:
            raise DataError(f"{path}: {found[match[1]].name} has the same name; remove one", public=_PUBLIC)
        if match:
            found[match[1]] = path
    return found


def _paired(images: Mapping[str, Path | tuple[Path, ...]], masks: Mapping[str, Path]) -> list[Record]:
    for name in sorted(images.keys() ^ masks.keys()):
        lacking, having = ("mask", "image") if name in images else ("image", "mask")
        raise DataError(f"'{name}' has no {lacking}; add it or remove the {having}", public=_PUBLIC)
    records = []
    for name, mask in sorted(masks.items()):
        image = images[name]
        records.append(Record(image if isinstance(image, tuple) else (image,), mask, case=name))
    return records


def _case(name: str, pattern: str) -> str:
    match = re.search(pattern, name)
    if match is None:
        raise DataError(f"site.json: 'case_pattern' does not match '{name}'", public=_PUBLIC)
    return match[1]


def _check_labels(path: Path, labels: Any, site_file: SiteFile) -> None:
    classes = get_task(site_file.task).classes
    if not isinstance(labels, dict) or set(labels.values()) != set(range(len(classes))):
        raise DataError(
            f"{path}: 'labels' must be the ids 0 to {len(classes) - 1} of task {site_file.task} "
            f"({', '.join(classes)}); if they are not, map them with 'mask_values' in site.json",
            public=_PUBLIC,
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except ConfigError as error:
        raise DataError(f"{path}: {error}", public=_PUBLIC) from None
