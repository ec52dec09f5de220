"""Read images and masks: PNG, JPEG, BMP and TIFF through Pillow, NIfTI through nibabel.

NIfTI arrays are taken as stored: the first axis counts rows, the second columns, the third slices.
"""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mucald.data.images.geometry import is_nifti
from mucald.data.layouts import Record
from mucald.errors import DataError
from mucald.tasks import Task

Pixels = NDArray[np.uint8]
Labels = NDArray[np.uint8]

RGB_CHANNELS = 3
WINDOW_PERCENTILES = (0.5, 99.5)
BINARY_FOREGROUND = 255
LOSSY_ENDINGS = (".jpg", ".jpeg")

_UNREADABLE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_record(record: Record, task: Task, value_map: dict[int, int]) -> tuple[Pixels, Labels]:
    """Read an image and its mask.

    Args:
        record: the files.
        task: tells the classes that the mask may hold.
        value_map: class id per stored mask value (``mask_values`` of the site file).

    Returns:
        Pixels (uint8, slices x H x W x 3) and class ids (uint8, slices x H x W); a picture has one slice.

    Raises:
        DataError: a file is missing, truncated or no image, image and mask differ in size, or the mask holds
            a value that is no class of the task.
    """
    pixels = read_image(record.images)
    labels = read_mask(record.mask, task, value_map, fill=record.outline)
    if pixels.shape[:-1] != labels.shape:
        raise DataError(
            f"{record.mask}: the mask is {_size(labels.shape)} but its image {record.images[0].name} is "
            f"{_size(pixels.shape[:-1])}; export both at one size",
            public="an image and its mask differ in size",
        )
    return pixels, labels


def read_image(paths: tuple[Path, ...]) -> Pixels:
    """Read one file, or single-channel files as red, green and blue (uint8, slices x H x W x 3).

    Of more than three files the first three count. Whatever is not 8 bit (NIfTI, 16 bit pictures) is windowed
    from its 0.5 to its 99.5 percentile, taken over the whole volume. A single channel becomes grey, a missing
    third channel black.
    """
    paths = paths[:RGB_CHANNELS]
    channels = [_read_pixels(path) for path in paths]
    for path, channel in zip(paths, channels, strict=True):
        if channel.shape != channels[0].shape:
            raise DataError(
                f"{path}: its size differs from that of {paths[0].name}", public="channels differ in size"
            )
    if len(channels) == 1:
        return channels[0]
    black = np.zeros_like(channels[0][..., 0])
    planes = [channel[..., 0] for channel in channels] + [black] * (RGB_CHANNELS - len(channels))
    return np.stack(planes, axis=-1)


def read_mask(path: Path, task: Task, value_map: dict[int, int], fill: bool = False) -> Labels:
    """Read a mask as class ids (uint8, slices x H x W).

    Two-class masks stored as 0 and 255 become 0 and 1. JPEG blurs values, so those of a JPEG mask are snapped
    to the nearest known value first. ``fill`` closes an outline into an area.
    """
    stored = _read_labels(path)
    if not value_map and task.n_classes == 2 and stored.max(initial=0) > 1:
        value_map = {BINARY_FOREGROUND: 1}
    if path.suffix.lower() in LOSSY_ENDINGS and value_map:
        stored = _snap(stored, sorted({0, *value_map}))
    labels = stored.copy()
    for value, label in value_map.items():
        labels[stored == value] = label
    wrong = np.unique(labels[(labels < 0) | (labels >= task.n_classes)])
    if len(wrong):
        raise DataError(
            f"{path}: the mask holds the value {wrong[0]}, but task {task.name} has the classes 0 to "
            f"{task.n_classes - 1} ({', '.join(task.classes)}); map it with 'mask_values' in site.json",
            public=f"a mask holds a value that is no class of task {task.name}",
        )
    if fill:
        from scipy import ndimage  # only sites whose masks are outlines pay for its import

        labels = np.stack([ndimage.binary_fill_holes(layer) for layer in labels])
    return labels.astype(np.uint8)


def read_stored(path: Path) -> NDArray[Any]:
    """Read an image file's values as they are stored, before any window; the axes are the file's.

    Raises:
        DataError: the file is missing, truncated or no image.
    """
    return _read_volume(path) if is_nifti(path) else np.asarray(_open_picture(path))


def _read_pixels(path: Path) -> Pixels:
    """One image file as uint8, slices x H x W x 3."""
    if is_nifti(path):
        volume = _window(_read_volume(path), path)
        return np.repeat(volume[..., None], RGB_CHANNELS, axis=-1)
    picture = _open_picture(path)
    if picture.mode.startswith(("I", "F")):
        grey = _window(np.asarray(picture, dtype=np.float64), path)
        return np.repeat(grey[None, ..., None], RGB_CHANNELS, axis=-1)
    return np.asarray(picture.convert("RGB"))[None]


def _read_labels(path: Path) -> NDArray[np.int64]:
    """The values stored in a mask, slices x H x W; a palette picture gives its indices, not its colours."""
    public = "a mask is no map of class ids"
    if is_nifti(path):
        values = _read_volume(path)
    else:
        values = np.asarray(_open_picture(path), dtype=np.float64)[None]
        if values.ndim == 4:
            if (values[..., :1] != values[..., :RGB_CHANNELS]).any():
                raise DataError(
                    f"{path}: the mask is coloured; save it as one channel of class ids", public=public
                )
            values = values[..., 0]
    whole = np.rint(values)
    if not np.array_equal(whole, values):
        raise DataError(f"{path}: the mask holds fractions; save it as whole class ids", public=public)
    return whole.astype(np.int64)


def _open_picture(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None


def _read_volume(path: Path) -> NDArray[np.float64]:
    """A NIfTI file as slices x H x W."""
    import nibabel  # only sites with NIfTI files pay for its import
    from nibabel.filebasedimages import ImageFileError

    try:
        values = np.asanyarray(nibabel.load(path).dataobj)
    except (ImageFileError, *_UNREADABLE) as error:
        raise _unreadable(path, error) from None
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or not np.issubdtype(values.dtype, np.number):
        raise DataError(
            f"{path}: shape {values.shape} of type {values.dtype} is not supported; export "
            "a 2-D or 3-D volume of numbers, one file per channel",
            public="a NIfTI file is not a 2-D or 3-D volume",
        )
    volume = values.astype(np.float64).reshape(*values.shape[:2], -1)
    return np.moveaxis(volume, -1, 0)


def _window(values: NDArray[np.float64], path: Path) -> Pixels:
    """Scale the range between two percentiles to 0..255."""
    if not np.isfinite(values).all():
        raise DataError(
            f"{path}: holds values that are not finite; export it again", public="an image is not finite"
        )
    low, high = np.percentile(values, WINDOW_PERCENTILES)
    if high <= low:
        low, high = values.min(), values.max()
    scale = BINARY_FOREGROUND / (high - low) if high > low else 0.0
    return np.clip(np.rint((values - low) * scale), 0, 255).astype(np.uint8)


def _snap(values: NDArray[np.int64], known: list[int]) -> NDArray[np.int64]:
    levels = np.array(known)
    limits = (levels[1:] + levels[:-1]) / 2
    return levels[np.searchsorted(limits, values)]


def _size(shape: tuple[int, ...]) -> str:
    slices, height, width = shape
    return f"{width} x {height}" + (f" x {slices}" if slices > 1 else "")


def _unreadable(path: Path, error: Exception) -> DataError:
    fix = (
        "it does not exist"
        if isinstance(error, FileNotFoundError)
        else f"cannot be read ({error}); copy it again"
    )
    return DataError(f"{path}: {fix}", public="an image or mask file is missing or unreadable")
