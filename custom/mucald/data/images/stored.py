"""One image or mask file as its values are stored: pictures by Pillow, NIfTI by nibabel.

NIfTI arrays are taken as stored: the first axis counts rows, the second columns, the third slices.
"""

import gzip
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mucald.data.files import VOLUME_ENDINGS, ending_of, is_nifti, reading
from mucald.data.images.geometry import Geometry, geometry_of, laid_over
from mucald.data.images.pictures import ENDINGS, RefusedError, check_format, check_regular, open_picture
from mucald.errors import DataError

IMAGE_ENDINGS = (*ENDINGS, *VOLUME_ENDINGS)


@dataclass(frozen=True)
class Stored:
    """The values of a file, before any window.

    Args:
        values: slices x H x W, or slices x H x W x 3; a picture has one slice.
        encoding: what the file was taken for, in words.
        geometry: the grid that NIfTI tells.
        codes, alike, dark: see :class:`mucald.data.images.pictures.Picture`; slices x H x W.
        lossy: whether the compression changes values.
    """

    values: NDArray[Any]
    encoding: str
    geometry: Geometry | None = None
    codes: NDArray[np.uint8] | None = None
    lossy: bool = False
    alike: bool = False
    dark: bool = True


def read_stored(path: Path) -> Stored:
    """Read a file.

    Raises:
        DataError: it is missing, damaged or no image, or holds what has no one meaning.
    """
    with reading(path):
        if is_nifti(path):
            return _volume(path)
        picture = open_picture(path)
        codes = None if picture.codes is None else picture.codes[None]
        rest = picture.lossy, picture.alike, picture.dark
        return Stored(picture.values[None], picture.encoding, None, codes, *rest)


def _length(path: Path, compressed: bool) -> int:
    """Bytes that a file holds, unpacked; so the checksum behind the last voxel is compared as well.

    Raises:
        OSError, EOFError, zlib.error: the file is damaged.
    """
    if not compressed:
        return path.stat().st_size
    with gzip.open(path) as stream:
        return sum(map(len, iter(lambda: stream.read(2**20), b"")))


def _check_length(path: Path, image: Any, length: int) -> None:
    """Check that the header tells all of the file's voxels; nibabel reads on whatever it tells.

    Raises:
        RefusedError: it tells fewer bytes than there are, or its two fields of a voxel's size differ.
    """
    from nibabel.openers import Opener

    kind = image.get_data_dtype()
    with Opener(path) as stream:
        # Without the mending that the image's own header has had.
        bits = int(image.header_class.from_fileobj(stream, check=False)["bitpix"])
    if bits != 8 * kind.itemsize:
        raise RefusedError(
            f"its header tells numbers of {8 * kind.itemsize} bits (datatype {kind.name}) and of {bits} bits "
            "(bitpix); export it again"
        )
    told = math.prod(map(int, image.shape)) * kind.itemsize
    # Where there are fewer, reading fails.
    if (held := length - image.dataobj.offset) > told:
        raise RefusedError(
            f"its header tells {' x '.join(map(str, image.shape))} voxels of {kind.name}, which are {told} "
            f"bytes from byte {image.dataobj.offset} on, but the file holds {held} there; export it again"
        )


def read_geometry(path: Path) -> Geometry:
    """Return what the header of a NIfTI file tells, without its voxels.

    Raises:
        DataError: see :func:`read_stored`.
    """
    with reading(path):
        check_regular(path)
        return geometry_of(_loaded(path))


def _loaded(path: Path) -> Any:
    import nibabel  # only those with NIfTI files pay for its import

    # What it prints names no file, and what it finds wrong it raises too.
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)
    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise RefusedError(f"is a {type(image).__name__}; export it as NIfTI")
    return image


def _volume(path: Path) -> Stored:
    check_regular(path)
    compressed = ending_of(path.name) == ".nii.gz"
    check_format(path, "NIfTI", "gzip" if compressed else "NIfTI")
    length = _length(path, compressed)
    image = _loaded(path)
    kind = image.get_data_dtype()
    if kind.kind not in "iuf":
        what = "RGB" if kind.names else "complex numbers" if kind.kind == "c" else str(kind)
        raise RefusedError(f"holds {what}; export numbers, one file per channel")
    _check_length(path, image, length)
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3) or 0 in shape:
        raise RefusedError(f"has the shape {image.shape}; export a 2-D or 3-D volume, one file per channel")
    if min(shape[:2]) == 1 < max(shape[2:], default=1):
        raise RefusedError(
            f"has the shape {shape}, hence slices one voxel wide; the third axis must count slices"
        )
    volume = np.asanyarray(image.dataobj).reshape(*shape[:2], -1).astype(np.float64)
    return Stored(np.moveaxis(volume, -1, 0), f"NIfTI {kind.name}", geometry_of(image))


def placed_over(
    values: NDArray[Any], own: Stored, other: Stored, path: Path, other_path: Path
) -> NDArray[Any]:
    """Return values of one file on the grid of another, as :func:`.laid_over` turns them.

    Args:
        values: of the file at ``path``, slices x rows x columns, and more.
        own: what was read there.
        other: the file to lie on, at ``other_path``.
        path, other_path: where they are, for messages.

    Raises:
        DataError: the grids differ.
    """
    try:
        return laid_over(values, own.geometry, other.geometry)
    except ValueError as error:
        raise DataError(
            f"{path}: does not lie over {other_path.name}: {error}",
            public="an image and its mask do not lie over each other",
        ) from None
