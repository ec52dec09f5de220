"""Decode pictures into the values that they show, or refuse them by the name of what they hold.

It needs NumPy and Pillow alone, for an exported bundle carries a copy of this file and reads with it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
RGB_CHANNELS = 3
WINDOW_PERCENTILES = (0.5, 99.5)
WHITE = 255

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_MODES = {
    "1": "1 bit",
    "L": "grey",
    "LA": "grey with alpha",
    "P": "palette",
    "PA": "palette with alpha",
    "RGB": "colour",
    "RGBA": "colour with alpha",
    "I;16": "grey 16 bit",
    "I;16B": "grey 16 bit",
    "I": "grey, integers of 32 bit",
    "F": "grey, floating point",
}
# Tags of TIFF, by their numbers in TIFF 6.0.
_PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT = 262, 277, 339
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED = 0, 1, 2


class RefusedError(ValueError):
    """A file can be decoded, but what it holds has no one meaning as an image or a mask."""


@dataclass(frozen=True)
class Picture:
    """A picture as a viewer shows it, turned by its EXIF orientation.

    Args:
        values: H x W or H x W x 3; uint8 where the file has 8 bits or fewer per channel.
        encoding: what the file was taken for, in words.
        codes: the indices of a palette, or the numbers of a picture of fewer than 8 bits, H x W; None where
            they are the values.
        lossy: whether the compression changes values.
    """

    values: NDArray[Any]
    encoding: str
    codes: NDArray[np.uint8] | None
    lossy: bool


def open_picture(path: Path) -> Picture:
    """Decode a picture.

    Raises:
        RefusedError: it has several pages, more than 8 bits per colour, transparent pixels, channels
            without a name, or colours that are not RGB.
        Exception: whatever Pillow raises where the file is missing, damaged or no picture.
    """
    with Image.open(path, formats=_FORMATS) as picture:
        tags: dict[int, Any] = dict(getattr(picture, "tag_v2", {}))
        lossy = _is_lossy(picture, path)
        # Before anything loads it, for then Pillow has reduced what it holds to a mode.
        raw = _raw_mode(picture)
        _check(picture, raw, tags)
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
        picture.load()
        shown = ImageOps.exif_transpose(picture)
    _check_opaque(shown)
    values, codes = _values(shown, raw, tags)
    words = [f"{picture.format} {_MODES[shown.mode]}"]
    words += ["white is zero"] * (tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
    words += ["turned by its EXIF orientation"] * turned
    return Picture(values, ", ".join(words), codes, lossy)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture as training sees it before it is resized: uint8, H x W x 3.

    Raises:
        RefusedError, Exception: see :func:`open_picture` and :func:`window`; the message names the file.
    """
    try:
        return as_rgb(open_picture(path).values)
    except RefusedError as error:
        raise RefusedError(f"{path}: {error}") from None


def as_rgb(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pixels (..., H, W, 3) of what :class:`Picture` calls values; grey is windowed unless uint8.

    Raises:
        RefusedError: see :func:`window`.
    """
    if values.shape[-1] == RGB_CHANNELS and values.dtype == np.uint8 and values.ndim > 2:
        return values
    grey = values if values.dtype == np.uint8 else scaled(values, window(values))
    return np.repeat(grey[..., None], RGB_CHANNELS, axis=-1)


def window(values: NDArray[Any]) -> tuple[float, float]:
    """Return the range that is shown of values that are not 8 bit: from their 0.5 to their 99.5 percentile.

    Where these are the same, it is the range of all.

    Raises:
        RefusedError: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise RefusedError("holds values that are not finite; export it again")
    low, high = (float(value) for value in np.percentile(values, WINDOW_PERCENTILES))
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def scaled(values: NDArray[Any], shown: tuple[float, float]) -> NDArray[np.uint8]:
    """Return values with the range ``shown`` set to 0..255; a range without width is black."""
    low, high = shown
    scale = WHITE / (high - low) if high > low else 0.0
    return np.clip(np.rint((values.astype(np.float64) - low) * scale), 0, WHITE).astype(np.uint8)


def _raw_mode(picture: Image.Image) -> str:
    """How the file stores a pixel, as Pillow calls it; WebP does not tell."""
    tiles = getattr(picture, "tile", None) or [None]
    arguments = tiles[0].args if tiles[0] is not None else ""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _is_lossy(picture: Image.Image, path: Path) -> bool:
    if picture.format == "WEBP":
        return b"VP8L" not in path.read_bytes()
    compression = str(picture.info.get("compression", ""))
    return picture.format in ("JPEG", "MPO") or "jpeg" in compression or "webp" in compression


def _check(picture: ImageFile.ImageFile, raw: str, tags: dict[int, Any]) -> None:
    # The further pictures of an MPO, which phones write, are previews of the first.
    if picture.format != "MPO" and (pages := getattr(picture, "n_frames", 1)) > 1:
        raise RefusedError(f"holds {pages} pages; save each as a file of its own")
    if tags.get(ExifTags.Base.Orientation, 1) > 4 and picture.tile[0].codec_name == "raw":
        # Pillow 13 decodes such a file with its width and height swapped, so that rows are torn.
        raise RefusedError("is an uncompressed TIFF stored on its side; save it upright, or compressed")
    bands = len(picture.getbands())
    if re.search(r";16[BLN]", raw) and (bands > 1 or not picture.mode.startswith("I")):
        raise RefusedError(
            "holds more than one channel of 16 bits; save it with 8 bits per channel, or as grey of 16 bits"
        )
    if picture.mode not in _MODES:
        raise RefusedError(f"holds {picture.mode} pixels; save it as RGB or grey")
    if (samples := tags.get(_SAMPLES, bands)) != bands:
        raise RefusedError(
            f"holds {samples} channels, of which {samples - bands} have no meaning; save it as RGB"
        )


def _check_opaque(shown: Image.Image) -> None:
    if not shown.has_transparency_data:
        return
    if shown.mode.startswith(("I", "F")) or shown.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise RefusedError("has an alpha channel that is not opaque everywhere; save it without one")


def _values(
    shown: Image.Image, raw: str, tags: dict[int, Any]
) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    if shown.mode in ("P", "PA"):
        colours = np.asarray(shown.convert("RGB"))
        grey = (colours == colours[..., :1]).all()
        return colours[..., 0] if grey else colours, np.asarray(shown.getchannel(0))
    if shown.mode in ("RGB", "RGBA"):
        return np.asarray(shown.convert("RGB")), None
    if shown.mode in ("1", "L", "LA"):
        values = np.asarray(shown.convert("L"))
        if tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _SIGNED:
            return values.view(np.int8).astype(np.int16), None
        few = re.match(r"L;([24])", raw)
        steps = 1 if shown.mode == "1" else 2 ** int(few[1]) - 1 if few else WHITE
        return values, None if steps == WHITE else values // (WHITE // steps)
    values = np.asarray(shown)
    if shown.mode == "I" and tags.get(_SAMPLE_FORMAT, (_SIGNED,))[0] == _UNSIGNED:
        values = values.view(np.uint32)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        # Pillow turns 8 bits and fewer itself.
        values = np.iinfo(np.uint16).max - values if values.dtype.kind == "u" else -values
    return values, None
