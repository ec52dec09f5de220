"""The one reader of images and masks, which training, checks, prediction and preparing use alike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mucald.data.checked import SeenImages
from mucald.data.files import reading
from mucald.data.images.geometry import doubts
from mucald.data.images.masks import ClassIds, Labels
from mucald.data.images.pictures import RGB_CHANNELS, as_rgb, window
from mucald.data.images.stored import Stored, placed_over, read_stored
from mucald.data.records.layouts import Record
from mucald.errors import DataError
from mucald.tasks import Task

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ReadImage:
    """An image as it is trained on, and what its files were taken for.

    Args:
        pixels: uint8, slices x H x W x 3; a picture has one slice.
        files: those that were read, at most three.
    """

    pixels: Pixels
    files: tuple[Stored, ...]

    @property
    def first(self) -> Stored:
        """The file on whose grid the image lies."""
        return self.files[0]

    @property
    def window(self) -> tuple[float, float] | None:
        """The range of stored values that the first file shows; None where it has 8 bits."""
        return None if self.first.values.dtype == np.uint8 else window(self.first.values)


@dataclass(frozen=True)
class Sample:
    """An image with its mask.

    Args:
        image: the image.
        labels: class ids, uint8, slices x H x W.
        mask: what the mask was taken for, in words.
        doubts: what headers leave open of how image and mask lie on each other, in words.
    """

    image: ReadImage
    labels: Labels
    mask: str
    doubts: tuple[str, ...] = ()


class SetReader:
    """Reads the images and masks of one set, all in one way.

    Args:
        task: tells the classes that masks may hold.
        value_map: class id per stored mask value (``mask_values`` of the site file).
    """

    def __init__(self, task: Task, value_map: Mapping[int, int]):
        self._ids = ClassIds(task, value_map)

    def read(self, record: Record) -> Sample:
        """Read an image and its mask, which is turned where its header says that its axes are.

        Raises:
            DataError: a file is missing, damaged or of no one meaning, image and mask differ in size or lie
                elsewhere; see also :meth:`mucald.data.images.masks.ClassIds.of`.
        """
        image, stored = read_image(record.images), read_stored(record.mask)
        if record.colour and image.first.values.ndim < 4:
            raise DataError(
                f"{record.images[0]}: is grey, but dataset.json names three channels and the case has one "
                "file; save it in colour, or add the files of the other channels",
                public="images of a set differ in their channels",
            )
        _check_size(record.mask, stored, "the mask", record.images[0], image.first)
        values = placed_over(stored.values, stored, image.first, record.mask, record.images[0])
        turned = ", axes turned" if values is not stored.values else ""
        labels, words = self._ids.of(record.mask, replace(stored, values=values), record.outline)
        grids = [file.geometry for file in (*image.files, stored) if file.geometry is not None]
        return Sample(image, labels, f"{stored.encoding}{turned}: {words}", doubts(grids))


def read_set(
    splits: Mapping[str, Sequence[Record]], task: Task, value_map: Mapping[int, int], seen: SeenImages
) -> Iterator[tuple[Record, Sample]]:
    """Yield every image of a set, in the order of its splits, with the split that it was given.

    Args:
        splits: the records by split.
        task: see :class:`SetReader`.
        value_map: see :class:`SetReader`.
        seen: notes every image.

    Raises:
        DataError: see :meth:`SetReader.read`; or, at the end, an image lies in two splits.
    """
    reader = SetReader(task, value_map)
    for split, records in splits.items():
        for record in records:
            sample, placed = reader.read(record), replace(record, split=split)
            seen.add(placed, sample.image.pixels, sample.labels)
            yield placed, sample
    seen.check_apart()


def read_image(paths: tuple[Path, ...]) -> ReadImage:
    """Read one file, or files of one channel each as red, green and blue.

    Of more than three files the first three count. Whatever is not 8 bit (NIfTI, 16 bit pictures) is windowed
    from its 0.5 to its 99.5 percentile, taken over the whole volume. A single channel becomes grey, a missing
    third channel black.

    Raises:
        DataError: a file is missing, damaged or of no one meaning, or lies elsewhere than the first.
    """
    paths = paths[:RGB_CHANNELS]
    files = tuple(read_stored(path) for path in paths)
    channels = []
    for path, stored in zip(paths, files, strict=True):
        with reading(path):
            channels.append(as_rgb(stored.values))
        if len(paths) > 1:
            _check_grey(path, channels[-1])
        _check_size(path, stored, "the channel", paths[0], files[0])
        channels[-1] = placed_over(channels[-1], stored, files[0], path, paths[0])
    if len(channels) == 1:
        return ReadImage(channels[0], files)
    black = np.zeros_like(channels[0][..., 0])
    planes = [channel[..., 0] for channel in channels] + [black] * (RGB_CHANNELS - len(channels))
    return ReadImage(np.stack(planes, axis=-1), files)


def _check_grey(path: Path, pixels: Pixels) -> None:
    """A file saved in colour whose three channels are the same is grey."""
    if (pixels != pixels[..., :1]).any():
        raise DataError(
            f"{path}: is a colour picture, but one channel of several files; save it in grey, or name it "
            "as the only file of its image",
            public="images of a set differ in their channels",
        )


def _check_size(path: Path, own: Stored, what: str, other_path: Path, other: Stored) -> None:
    """Grids of NIfTI are compared when one is laid over the other, where their axes may be swapped."""
    shape, others = own.values.shape[:3], other.values.shape[:3]
    if own.geometry is None and shape != others:
        raise DataError(
            f"{path}: {what} is {_size(shape)} but its image {other_path.name} is {_size(others)}; export "
            "both at one size",
            public="an image and its mask differ in size",
        )


def _size(shape: tuple[int, ...]) -> str:
    slices, height, width = shape
    return f"{width} x {height}" + (f" x {slices}" if slices > 1 else "")
