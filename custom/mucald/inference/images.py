"""Images without masks: which files belong together, their geometry, and masks written in it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mucald.data.files import ending_of, is_nifti, unused_in
from mucald.data.images.stored import IMAGE_ENDINGS
from mucald.errors import DataError

_ENDINGS = "|".join(map(re.escape, IMAGE_ENDINGS))
_FILE = re.compile(rf"([^.].*?)({_ENDINGS})", re.IGNORECASE | re.DOTALL)
_CHANNEL = re.compile(r"(.+)_(\d{4})", re.DOTALL)


@dataclass(frozen=True)
class Input:
    """One image to segment.

    Args:
        name: of its mask, without ending.
        files: the image file, or one per channel.
        ending: of the mask's file; a picture's mask is a PNG, a NIfTI file keeps its ending.
        fault: why it is not segmented, if it lacks a channel that others have.
    """

    name: str
    files: tuple[Path, ...]
    ending: str
    fault: str = ""

    @property
    def mask_name(self) -> str:
        """Name of the mask's file."""
        return self.name + self.ending


def find_inputs(paths: Iterable[Path], channels: bool) -> list[Input]:
    """List images, in the order of ``paths`` and, within a folder, of their names; each once.

    Of images that would have one mask the first has it; the others have a fault, and come last.

    Args:
        paths: files, and folders whose files with the ending of an image are taken.
        channels: files called ``<name>_0000``, ``<name>_0001``, … are the channels of one image, as in
            nnU-Net; of a picture the first three count.

    Raises:
        DataError: a path does not exist, is no image, or nothing was found.
    """
    found: dict[tuple[str, str], dict[str, Path]] = {}
    clashes = []
    for path in each_once(named_files(paths)):
        name, channel = parts(path, channels)
        ending = ending_of(path.name) if is_nifti(path) else ".png"
        files = found.setdefault((name, ending), {})
        if files and (channel in files or "" in (channel, *files)):
            first = files[min(files)]
            fault = f"{path}: {first} has the same mask {name}{ending}; rename one, or segment it by itself"
            clashes.append(Input(name, (path,), ending, fault))
        else:
            files[channel] = path
    if not found:
        raise DataError(
            "no images found; give PNG, JPEG, BMP, TIFF, WebP or NIfTI files, or the folders right above them"
        )
    most = max(int(channel or 0) for files in found.values() for channel in files)
    wanted = [f"{number:04}" for number in range(most + 1)]
    return [_input(name, ending, files, wanted) for (name, ending), files in found.items()] + clashes


def _input(name: str, ending: str, files: dict[str, Path], wanted: list[str]) -> Input:
    ordered = [files[channel] for channel in sorted(files)]
    fault = ""
    if "" not in files and sorted(files) != wanted:
        fault = f"{ordered[0]}: has the channels {', '.join(sorted(files))}, not {', '.join(wanted)}"
    return Input(name, tuple(ordered), ending, fault)


def parts(path: Path, channels: bool) -> tuple[str, str]:
    """Return an image's name without ending and channel, and its channel's number, if it has one.

    Raises:
        DataError: it is not the name of an image.
    """
    match = _FILE.fullmatch(path.name)
    if match is None:
        raise DataError(f"{path}: not the name of a PNG, JPEG, BMP, TIFF, WebP or NIfTI file")
    found = _CHANNEL.fullmatch(match[1]) if channels else None
    return (found[1], found[2]) if found else (match[1], "")


def named_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files among ``paths``, and the images of the folders among them.

    Raises:
        DataError: a path does not exist.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(file for file in path.iterdir() if _FILE.fullmatch(file.name))
        elif path.exists():
            files.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    return files


def each_once(files: Iterable[Path]) -> list[Path]:
    """Leave out files that came before, however their folder is named; a link is a file of its own."""
    places: dict[Path, Path] = {}
    for path in files:
        places.setdefault(path.parent.resolve() / path.name, path)
    return list(places.values())


def passed_over(paths: Iterable[Path]) -> list[str]:
    """Say which files of folders among ``paths`` are no images by their endings."""
    folders = [path for path in paths if path.is_dir()]
    return [
        words
        for folder in folders
        for words in unused_in(
            folder, [p.name + "/" * p.is_dir() for p in folder.iterdir() if not _FILE.fullmatch(p.name)]
        )
    ]


def write_mask(image: Input, labels: NDArray[np.uint8], folder: Path, keeps_integers: bool = False) -> Path:
    """Write a mask into ``folder`` in the geometry of its image; return its file.

    A picture's mask is a PNG of class ids. A NIfTI mask has the image's affine, shape and header, but for the
    scaling and the data's type, which is one byte.

    Args:
        image: the image.
        labels: class ids, slices x H x W, as :func:`mucald.data.images.readers.read_image` orders an image.
        folder: where to write.
        keeps_integers: whether the mask of an image of integers has their type instead.
    """
    path = folder / image.mask_name
    if image.ending == ".png":
        Image.fromarray(labels[0]).save(path)
        return path
    source = nibabel.load(image.files[0])
    header = source.header.copy()
    if not (keeps_integers and source.get_data_dtype().kind in "iu"):
        header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    # The range to display was the image's.
    header["cal_min"] = header["cal_max"] = 0
    volume = np.moveaxis(labels, 0, -1).reshape(source.shape)
    nibabel.save(type(source)(volume, source.affine, header), path)
    return path
