"""Writes the pictures and volumes that the tests of the data modules read."""

import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from mucald.randomness import generator


def write_pair(
    image: Path, mask: Path, index: int = 0, size: tuple[int, int] = (16, 20), top: int = 1
) -> None:
    """Write a noise picture (height, width) and a mask with a rectangle of the value ``top``."""
    pixels = generator("picture", index).integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = np.zeros(size, np.uint8)
    labels[3 : 8 + index % 5, 4:12] = top
    for path, array in ((image, pixels), (mask, labels)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


def touch(root: Path, *names: str) -> None:
    """Write empty files, with their folders, for what only names are read of."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def turned(orientation: int) -> Image.Exif:
    """Return EXIF data that says how a viewer turns the picture."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def save_nifti(path: Path, array: NDArray[Any], affine: NDArray[Any] | None = None, **header: Any) -> Path:
    """Write a volume; ``header`` sets fields of its header, and what is told of its place after that."""
    image = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine)
    for name, value in ({"vox_offset": 352} | header).items():
        image.header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not nibabel.save, which would mend what tests break.
    with nibabel.openers.Opener(str(path), "wb") as stream:
        image.header.write_to(stream)
        stream.write(np.asarray(array, image.header.get_data_dtype()).tobytes(order="F"))
    return path


def save_png(path: Path, rows: NDArray[Any], depth: int, colour_type: int, **chunks: bytes) -> Path:
    """Write a PNG of any bit depth, which Pillow cannot.

    Args:
        path: the file.
        rows: integers, H x W or H x W x channels, each below 2 to the power of ``depth``.
        depth: bits per channel.
        colour_type: of the PNG specification: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA.
        chunks: further chunks before the pixels, such as ``PLTE`` and ``tRNS``.
    """

    def chunk(name: str, data: bytes) -> bytes:
        body = name.encode() + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = rows.shape[:2]
    flat = rows.reshape(height, -1)
    shifts = np.arange(depth - 1, -1, -1)
    bits = (flat[..., None].astype(np.int64) >> shifts & 1).astype(np.uint8).reshape(height, -1)
    data = b"".join(b"\0" + line.tobytes() for line in np.packbits(bits, axis=1))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [chunk("IHDR", header), *(chunk(*item) for item in chunks.items())]
    parts += [chunk("IDAT", zlib.compress(data)), chunk("IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def save_tiff(path: Path, rows: NDArray[Any], photometric: int, **tags: int) -> Path:
    """Write an uncompressed TIFF whose numbers have the type of ``rows`` (H x W, or H x W x channels).

    Args:
        path: the file.
        rows: the numbers; their byte order is the file's.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 5 CMYK, 8 LAB.
        tags: ``format`` (1 unsigned, 2 signed, 3 floating point), and ``extra``: what further channels mean.
    """
    order = ">" if rows.dtype.byteorder == ">" else "<"
    height, width, channels = (*rows.shape, 1)[:3]
    bits = 8 * rows.dtype.itemsize
    entries = {256: [width], 257: [height], 258: [bits] * channels, 259: [1], 262: [photometric]}
    entries |= {273: [0], 277: [channels], 278: [height], 279: [rows.nbytes]}
    entries |= {338: [tags["extra"]]} if "extra" in tags else {}
    entries |= {339: [tags["format"]] * channels} if "format" in tags else {}
    place = 8 + 2 + 12 * len(entries) + 4
    long = 2 * channels if channels > 2 else 0
    entries[273] = [place + 2 * long]
    table, apart = b"", b""
    for tag, values in sorted(entries.items()):
        kind = "I" if tag in (273, 279) else "H"
        data = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(data) > 4:
            data, apart = struct.pack(f"{order}I", place + len(apart)), apart + data
        table += struct.pack(f"{order}HHI", tag, 4 if kind == "I" else 3, len(values)) + data.ljust(4, b"\0")
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    path.write_bytes(head + table + bytes(4) + apart.ljust(2 * long, b"\0") + rows.tobytes())
    return path


def save_tiff_parts(path: Path, parts: list[bytes], tags: dict[int, list[int]], order: str = "<") -> Path:
    """Write an uncompressed TIFF of strips, or tiles where ``tags`` tells their size, with any tags."""
    places, lengths = (324, 325) if 322 in tags else (273, 279)
    entries = {259: [1], places: [0] * len(parts), lengths: [len(part) for part in parts]} | tags
    apart = 8 + 2 + 12 * len(entries) + 4
    start = apart + sum(4 * len(values) for values in entries.values() if len(values) > 1)
    entries[places] = [start + sum(map(len, parts[:number])) for number in range(len(parts))]
    table, more = b"", b""
    for tag, values in sorted(entries.items()):
        data = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            data, more = struct.pack(f"{order}I", apart + len(more)), more + data
        table += struct.pack(f"{order}HHI", tag, 4, len(values)) + data
    head = (b"MM" if order == ">" else b"II") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    path.write_bytes(head + table + bytes(4) + more + b"".join(parts))
    return path


def save_bmp(path: Path, rows: NDArray[Any], bits: int, colours: list[tuple[int, int, int]]) -> Path:
    """Write a BMP of palette numbers (H x W) whose palette has as many colours as are given."""
    height, width = rows.shape
    shifts = np.arange(bits - 1, -1, -1)
    packed = np.packbits((rows[..., None] >> shifts & 1).astype(np.uint8).reshape(height, -1), axis=1)
    data = b"".join(line.tobytes().ljust(-(-len(line) // 4) * 4, b"\0") for line in packed[::-1])
    table = b"".join(bytes([*colour[::-1], 0]) for colour in colours)
    start = 54 + len(table)
    head = struct.pack("<2sIII", b"BM", start + len(data), 0, start)
    head += struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, 0, len(data), 0, 0, len(colours), 0)
    path.write_bytes(head + table + data)
    return path
