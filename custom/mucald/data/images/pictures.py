"""Decode pictures into the values that they show, or refuse them by the name of what they hold.

It needs NumPy and Pillow alone, for an exported bundle carries a copy of this file and reads with it.
"""

import math
import re
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
RGB_CHANNELS = 3
WINDOW_PERCENTILES = (0.5, 99.5)
WHITE = 255
DARK = 16
"""The brightest value that background may have in a palette."""

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
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT = 258, 259, 262, 277, 339
_WIDTH, _HEIGHT, _DESCRIPTION, _ROWS, _PLANES, _COLOUR_MAP = 256, 257, 270, 278, 284, 320
_STRIPS, _STRIP_BYTES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 273, 279, 322, 323, 324, 325
_META_MORPH, _CCITT_WORDS = 33629, 32771
_DEPTH, _TILE_DEPTH = 32997, 32998  # of SGI: slices behind each other
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED = 0, 1, 2
_NUMBERS = {1: "unsigned integers", 2: "signed integers", 3: "floating point", 6: "complex numbers"}
_COLOURS = {0: "white is zero", 1: "black is zero", 2: "RGB", 3: "palette", 4: "transparency mask", 5: "CMYK"}
_COLOURS |= {6: "YCbCr", 8: "CIELab", 32803: "colour filter array", 34892: "linear raw"}
_BEGINNINGS = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "GIF": rb"GIF8",
    "NIfTI": rb".{344}(?:n\+1|ni1)\0|.{4}n[+i][12]\0\r\n",
    "DICOM": rb".{128}DICM",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\0\0\0\x0cJXL |\xff\x0a",
    "HEIC or AVIF": rb".{4}ftyp",
    "NRRD": rb"NRRD",
    "MetaImage": rb"(?:ObjectType|NDims) *=",
    "PDF": rb"%PDF",
    "ZIP": rb"PK\x03\x04",
    "gzip": rb"\x1f\x8b",
    "NumPy": rb"\x93NUMPY",
    "a web page": rb"(?:\xef\xbb\xbf)?\s*<(?i:!doctype html|html)",
    "a pointer of Git LFS": rb"version https://git-lfs",
}
"""How files of other formats begin."""
_MENDS = {
    "NIfTI": "if it is a volume, name it .nii",
    "gzip": "if it is a volume, name it .nii.gz",
    "a web page": "download it again",
    "a pointer of Git LFS": "fetch it with 'git lfs pull'",
}


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
        alike: whether the palette shows different indices of the picture in one colour.
        dark: whether number 0 is shown nearly black, as background is.
    """

    values: NDArray[Any]
    encoding: str
    codes: NDArray[np.uint8] | None
    lossy: bool
    alike: bool
    dark: bool


def open_picture(path: Path) -> Picture:
    """Decode a picture.

    Raises:
        RefusedError: it is no regular file, has several pages, more than 8 bits per colour, transparent
            pixels, channels without a name, colours that are not RGB, or a format or encoding that Pillow
            does not read.
        Exception: whatever Pillow raises where the file is missing or damaged.
    """
    check_regular(path)
    # A large picture is no fault, and one that is too large is refused.
    quiet = warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning)
    with quiet, _opened(path) as picture:
        tags: dict[int, Any] = dict(getattr(picture, "tag_v2", {}))
        lossy = _is_lossy(picture, path)
        # Before anything loads it, for then Pillow has reduced what it holds to a mode.
        raw = _raw_mode(picture)
        _check(picture, raw, tags)
        if picture.format == "TIFF":
            _check_tiff(picture, tags)
        if picture.format == "BMP":
            _check_bmp(path, raw)
        colours = _palette_length(picture, tags)
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
        picture.load()
        shown = ImageOps.exif_transpose(picture)
    _check_opaque(shown)
    values, codes = _values(shown, raw, tags)
    if colours and codes is not None and codes.max() >= colours:
        raise RefusedError(
            f"holds the number {codes.max()}, but its palette has {colours} colours; save it without one"
        )
    words = [f"{picture.format} {_MODES[shown.mode]}"]
    words += ["white is zero"] * (tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
    words += ["turned by its EXIF orientation"] * turned
    alike = shown.mode in ("P", "PA") and codes is not None and _are_alike(shown, codes)
    # Nothing but a palette shows 0 otherwise than black; it tells so even where no pixel has this number.
    dark = shown.mode not in ("P", "PA") or max((shown.getpalette("RGB") or [0])[:RGB_CHANNELS]) <= DARK
    return Picture(values, ", ".join(words), codes, lossy, alike, dark)


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


def check_regular(path: Path) -> None:
    """Check that a path leads to a regular file; to open a pipe or a device may wait for ever.

    Raises:
        RefusedError: it leads to something else.
        OSError: it leads nowhere.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise RefusedError("is a folder; give the file itself")
    if not stat.S_ISREG(mode):
        raise RefusedError("is a pipe, socket or device; give a regular file")


def check_format(path: Path, wanted: str, *formats: str) -> None:
    """Check that a file's first bytes do not tell another format than its name.

    Args:
        path: the file.
        wanted: what to save it as otherwise.
        formats: those that it may have.

    Raises:
        RefusedError: they do.
    """
    with path.open("rb") as stream:
        head = stream.read(512)
    for name, pattern in _BEGINNINGS.items():
        if name not in formats and re.match(pattern, head, re.DOTALL):
            mend = _MENDS.get(name, f"save it as {wanted}")
            raise RefusedError(f"holds {name}, whatever its name says; {mend}")


def _opened(path: Path) -> ImageFile.ImageFile:
    check_format(path, "PNG", *_FORMATS)
    try:
        return Image.open(path, formats=_FORMATS)
    except Image.DecompressionBombError:
        raise RefusedError("has more pixels than a picture may have; save it smaller, or as tiles") from None
    except (UnidentifiedImageError, KeyError):
        if words := _tiff_words(path):
            raise RefusedError(
                f"is a TIFF of {words}, which is not read; save it as PNG, or as TIFF of 32 bits, floating "
                "point, black is zero"
            ) from None
        if (bits := _jpeg_bits(path)) not in (None, 8):
            raise RefusedError(f"is a JPEG of {bits} bits, which is not read; save it as PNG") from None
        raise


def _tiff_words(path: Path) -> str:
    """How a TIFF stores its pixels; nothing where it is damaged, or none."""
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
            head += stream.read(8) if 43 in head[2:4] else b""  # BigTIFF has a longer one
            tags = TiffImagePlugin.ImageFileDirectory_v2(head)
            stream.seek(tags.next)
            tags.load(stream)
            bits, numbers = tags.get(_BITS, (1,)), tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))
            colours, compression = tags[_PHOTOMETRIC], tags.get(_COMPRESSION, 1)
    except Exception:  # noqa: BLE001 - whatever a damaged directory makes Pillow raise; the caller tells it
        return ""
    depth = " + ".join(map(str, bits))
    kind = _NUMBERS.get(numbers[0], f"numbers of type {numbers[0]}")
    words = f"{depth} bits, {kind}, {_COLOURS.get(colours, f'photometric {colours}')}"
    return words if compression == 1 else f"{words}, compression {compression}"


def _jpeg_bits(path: Path) -> int | None:
    """Bits per channel that the frame header of a JPEG tells; None where there is none."""
    frame = rb"\xff\xd8.*?\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]..(.)"
    found = re.match(frame, path.read_bytes(), re.DOTALL)
    return found[1][0] if found else None


def _are_alike(shown: Image.Image, codes: NDArray[np.uint8]) -> bool:
    """A picture of one index is compared with index 0, which is background where indices are classes."""
    used = np.unique(codes)
    used = np.array([0, used[0]]) if len(used) == 1 and used[0] else used
    palette = np.array(shown.getpalette("RGB")).reshape(-1, RGB_CHANNELS)
    palette = np.concatenate([palette, np.zeros((256 - len(palette), RGB_CHANNELS), palette.dtype)])
    return len(np.unique(palette[used], axis=0)) < len(used)


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
    pages = max(getattr(picture, "n_frames", 1), _described_pages(picture, tags))
    if picture.format != "MPO" and pages > 1:
        raise RefusedError(f"holds {pages} pages; save each as a file of its own")
    if tags.get(ExifTags.Base.Orientation, 1) > 4 and picture.tile[0].codec_name == "raw":
        # Pillow 13 decodes such a file with its width and height swapped, so that rows are torn.
        raise RefusedError("is an uncompressed TIFF stored on its side; save it upright, or compressed")
    bands = len(picture.getbands())
    deep = re.search(r";16[BLN]", raw) and (bands > 1 or not picture.mode.startswith("I"))
    # A TIFF with a plane per channel tells a mode of 8 bits, and Pillow tears the bytes.
    deep = deep or (tags.get(_SAMPLES, 1) > 1 and max(tags.get(_BITS, (1,))) > 8)
    if deep:
        raise RefusedError(
            "holds more than one channel of 16 bits; save it with 8 bits per channel, or as grey of 16 bits"
        )
    if picture.mode not in _MODES:
        raise RefusedError(f"holds {picture.mode} pixels; save it as RGB or grey")
    if (samples := tags.get(_SAMPLES, bands)) != bands:
        raise RefusedError(
            f"holds {samples} channels, of which {samples - bands} have no meaning; save it as RGB"
        )


def _check_bmp(path: Path, raw: str) -> None:
    """Compare the header's bits with those that Pillow unpacks: 1 of black and white, 8 of greys."""
    with path.open("rb") as stream:
        head = stream.read(30)
    place = 24 if int.from_bytes(head[14:18], "little") == 12 else 28
    bits = int.from_bytes(head[place : place + 2], "little")
    if {"1": 1, "L": 8}.get(raw, bits) != bits:
        raise RefusedError(f"is a BMP of {bits} bits with few greys, which is not read; save it as PNG")


def _palette_length(picture: ImageFile.ImageFile, tags: dict[int, Any]) -> int:
    """Colours of the palette that a file holds, before Pillow fills it up; 0 where it needs none."""
    if picture.mode not in ("P", "PA"):
        return 0
    if picture.palette is None:
        raise RefusedError("has no palette, but its pixels are numbers of colours; save it again")
    if 0 < max(tags.get(_COLOUR_MAP, (0,))) < 256:
        raise RefusedError("has a palette of 8 bits per colour, where TIFF has 16; save it as PNG")
    return len(picture.palette.palette) // (4 if picture.palette.rawmode == "BGRX" else RGB_CHANNELS)


def _check_tiff(picture: ImageFile.ImageFile, tags: dict[int, Any]) -> None:
    """Check what Pillow takes for granted: that the file tells which colour 0 is, and holds all rows."""
    if _PHOTOMETRIC not in tags:
        raise RefusedError(
            "is a TIFF that does not tell if 0 is black or white (PhotometricInterpretation); save it as PNG"
        )
    if tags.get(_COMPRESSION) == _CCITT_WORDS:
        raise RefusedError("is a TIFF of CCITT runs in words, which Pillow tears; save it as PNG")
    if (depth := max(tags.get(_DEPTH, 1), tags.get(_TILE_DEPTH, 1))) > 1:
        raise RefusedError(f"holds {depth} pages (ImageDepth); save each as a file of its own")
    tiled = _TILES in tags
    width, height = tags[_WIDTH], tags[_HEIGHT]
    across, rows = (tags[_TILE_WIDTH], tags[_TILE_HEIGHT]) if tiled else (width, tags.get(_ROWS, height))
    planes = tags.get(_SAMPLES, 1) if tags.get(_PLANES, 1) == 2 else 1
    rows = max(1, rows if tiled else min(rows, height))
    down = math.ceil(height / rows)
    places, lengths = (
        tags.get(tag, ()) for tag in ((_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES))
    )
    parts = math.ceil(width / max(1, across)) * down * planes
    if len(places) != parts or len(lengths) not in (0, parts):
        raise RefusedError(
            f"is a damaged TIFF: it has {len(places)} parts, but its size needs {parts}; export it again"
        )
    if picture.tile[0].codec_name != "raw":
        return
    bits = tags.get(_BITS, (1,))
    bits = sum(bits) if len(bits) > 1 else bits[0] * tags.get(_SAMPLES, 1)
    line = math.ceil(across * bits // planes / 8)
    for number, length in enumerate(lengths):
        last = not tiled and number % down == down - 1
        least = line * (height - rows * (down - 1) if last else rows)
        # A writer may fill the last strip up, or each to an even number of bytes.
        if not least <= length <= line * rows + 1:
            raise RefusedError(
                f"is a damaged TIFF: a part holds {length} bytes, but its rows are {least}; export it again"
            )


def _described_pages(picture: ImageFile.ImageFile, tags: dict[int, Any]) -> int:
    """Pages that lie behind the first of a TIFF without a directory of their own.

    ImageJ and tifffile tell them in a description alone, MetaMorph by a value for each.
    """
    if isinstance(planes := tags.get(_META_MORPH), tuple):
        return len(planes)
    words = str(tags.get(_DESCRIPTION, ""))
    if found := re.match(r"ImageJ=.*?^images=(\d+)", words, re.DOTALL | re.MULTILINE):
        return int(found[1])
    if found := re.match(r'\{.*"shape": \[([\d, ]+)\]', words):
        values = math.prod(map(int, found[1].split(",")))
        return values // (picture.width * picture.height * len(picture.getbands()))
    return 1


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
    if shown.mode == "I" and tags and tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED:
        values = values.view(np.uint32)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        # Pillow turns 8 bits and fewer itself.
        values = np.iinfo(np.uint16).max - values if values.dtype.kind == "u" else -values
    return values, None
