"""Where voxels lie, as a NIfTI header tells it, and how two files of one image lie on each other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mucald.data.images.pictures import RefusedError

_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
_SIZES_AGREE = 0.01
"""Largest relative difference between two sizes that are told of one voxel."""
_SHIFT_AGREES = 0.1
"""Farthest that two headers may put one voxel apart, in voxels: what rounding in float32 leaves."""
_FORMS_AGREE = 1.0
"""The same for a qform, whose quaternion keeps an angle less exactly than a matrix."""
_TILTED = 0.01
"""Least angle between axes that is told, in degrees."""
_PLAUSIBLE_MM = (1e-4, 50.0)
"""Sizes of a voxel between a microscope's and a thick slice's."""
_AS_IT_IS = np.array([[0, 1], [1, 1], [2, 1]])
"""Axes that are not turned, as :mod:`nibabel.orientations` writes it."""


@dataclass(frozen=True)
class Geometry:
    """The grid of a volume.

    Args:
        shape: voxels along the axes of the stored array; a flat one has one slice.
        affine: mm of a voxel's centre from its indices (4 x 4), by the header's sform or else its qform.
        told: whether a form tells where voxels lie; otherwise their sizes alone are known, if these are.
        unit: of the header's numbers; ``unknown`` is read as mm, as NIfTI readers do.
        qform: the same as ``affine`` by the qform, where the header tells both forms.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    told: bool
    unit: str
    qform: NDArray[np.float64] | None = None

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """Sizes of a voxel in mm along the axes; None where the header tells none, or never was filled in."""
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        if (sizes <= 0).any() or (self.unset and not self.told):
            return None
        return float(sizes[0]), float(sizes[1]), float(sizes[2])

    @property
    def orientation(self) -> str:
        """Where the three axes point, such as ``RAS`` (right, anterior, superior)."""
        from nibabel.orientations import aff2axcodes

        return "".join(code or "?" for code in aff2axcodes(self.affine)) if self.told else "not told"

    @property
    def unset(self) -> bool:
        """Whether all sizes are told as 0 or 1, as in a header that never was filled in."""
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0) / _MM_PER_UNIT.get(self.unit, 1.0)
        return bool(np.isin(sizes[self.long].round(6), (0, 1)).all())

    @property
    def long(self) -> list[int]:
        """Axes of more than one voxel, whose sizes alone matter."""
        return [axis for axis in range(3) if self.shape[axis] > 1] or [0, 1]


def geometry_of(image: Any) -> Geometry:
    """Return what the header of a NIfTI image (:mod:`nibabel`) tells.

    Raises:
        RefusedError: it tells two things, or numbers that are not finite.
    """
    header = image.header
    code = int(header["xyzt_units"]) % 8
    if code > 3:
        raise RefusedError(
            f"its header tells the unit of length by the code {code}, which NIfTI lacks; export it again"
        )
    unit = header.get_xyzt_units()[0]
    flat = (*image.shape, 1, 1)[:3]
    told = bool(header["sform_code"] > 0 or header["qform_code"] > 0)
    affine = np.array(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all():
        raise RefusedError("its header's affine is not finite; export it again")
    if told:
        _check_sizes(affine, np.array((*header.get_zooms(), 1, 1)[:3], dtype=np.float64), flat)
    qform = None
    if header["sform_code"] > 0 and header["qform_code"] > 0:
        _check_forms(header)
        qform = np.array(header.get_qform(), dtype=np.float64)
        qform[:3] *= _MM_PER_UNIT.get(unit, 1.0)
    affine[:3] *= _MM_PER_UNIT.get(unit, 1.0)
    return Geometry(flat, affine, told, unit, qform)


def plausible(sizes: Iterable[float]) -> bool:
    """Return whether all sizes of voxels (in mm) may be those of a medical image."""
    least, most = _PLAUSIBLE_MM
    return all(least <= size <= most for size in sizes)


def doubts(grids: Sequence[Geometry]) -> tuple[str, ...]:
    """Say in words what the headers of an image's files leave open: how they lie on each other."""
    found = []
    if len(grids) > 1 and not all(grid.told for grid in grids):
        some = any(grid.told for grid in grids)
        who = "the image or its mask tells no place" if some else "image and mask tell no place"
        found.append(f"{who} (both codes of the header are 0), so that a mirrored mask would pass")
    if any(grid.qform is not None and not _agree(grid, _by_qform(grid), _FORMS_AGREE) for grid in grids):
        found.append("a header tells two places (sform and qform), of which the sform is read")
    return tuple(found)


def laid_over(volume: NDArray[Any], own: Geometry | None, other: Geometry | None) -> NDArray[Any]:
    """Return values (slices x rows x columns, and more) on the grid of another file of the same image.

    Axes that are only flipped or swapped are turned; nothing is interpolated.

    Args:
        volume: the values.
        own: its grid; None for a picture.
        other: the grid to lie on; None for a picture.

    Raises:
        RefusedError: the grids differ, or a picture and a volume are to lie on each other.
    """
    if (own is None) != (other is None):
        raise RefusedError("one is NIfTI, the other a picture that has no place in space; export both alike")
    if own is None or other is None:
        return volume
    turn = _turn(own, other)
    if turn is None:
        raise RefusedError(_difference(own, other))
    if own.qform is not None and other.qform is not None:
        # ITK reads the qform of some headers, nibabel and MONAI the sform.
        placed, place = _turned(_by_qform(own), turn), _by_qform(other)
        if not _agree(placed, place, _FORMS_AGREE):
            raise RefusedError(
                "it lies over it by the sform of both headers, but by their qform "
                f"{_difference(placed, place)}; correct the headers, or export both again"
            )
    if (turn == _AS_IT_IS).all():
        return volume
    from nibabel.orientations import apply_orientation

    return np.moveaxis(apply_orientation(np.moveaxis(volume, 0, 2), turn), 2, 0)


def _turn(own: Geometry, other: Geometry) -> NDArray[np.float64] | None:
    """How axes must be turned so that one grid is the other; None if they are not only turned."""
    if _agree(own, other):
        return _AS_IT_IS
    if own.told and other.told:
        from nibabel.orientations import io_orientation

        turn = io_orientation(np.linalg.inv(other.affine) @ _in_unit_of(own, other))
        if np.isfinite(turn).all() and _agree(_turned(own, turn), other):
            return turn
    return None


def _turned(grid: Geometry, turn: NDArray[np.float64]) -> Geometry:
    from nibabel.orientations import inv_ornt_aff

    axes = np.argsort(turn[:, 0])
    shape = (grid.shape[axes[0]], grid.shape[axes[1]], grid.shape[axes[2]])
    return replace(grid, shape=shape, affine=grid.affine @ inv_ornt_aff(turn, grid.shape))


def _by_qform(grid: Geometry) -> Geometry:
    assert grid.qform is not None
    return replace(grid, affine=grid.qform)


def _in_unit_of(own: Geometry, other: Geometry) -> NDArray[np.float64]:
    """A header that names no unit has that of the other file."""
    if own.unit != "unknown":
        return own.affine
    scale = np.array([[_MM_PER_UNIT.get(other.unit, 1.0)]] * 3 + [[1.0]])
    return own.affine * scale


def _agree(own: Geometry, other: Geometry, tolerance: float = _SHIFT_AGREES) -> bool:
    if own.shape != other.shape:
        return False
    if other.unit == "unknown" != own.unit:
        own, other = other, own
    affine = _in_unit_of(own, other)
    sizes, others = (np.linalg.norm(matrix[:3, :3], axis=0)[own.long] for matrix in (affine, other.affine))
    if not (own.told and other.told):
        return own.unset or other.unset or np.allclose(sizes, others, rtol=_SIZES_AGREE)
    corners = np.array([(*corner, 1) for corner in product(*((0, count - 1) for count in own.shape))])
    apart = np.linalg.norm(((affine - other.affine) @ corners.T)[:3], axis=0).max()
    return bool(apart <= tolerance * others.min())


def _difference(own: Geometry, other: Geometry) -> str:
    own = replace(own, affine=_in_unit_of(own, other))
    if own.shape != other.shape:
        return f"it has {_by(own.shape)} voxels, not {_by(other.shape)}"
    if own.told and other.told and own.orientation != other.orientation:
        return f"its axes point to {own.orientation}, not {other.orientation}, and are not only turned"
    if own.spacing is None or other.spacing is None or not np.allclose(own.spacing, other.spacing, rtol=0.01):
        return f"its voxels are {_by(own.spacing or ())} mm, not {_by(other.spacing or ())} mm"
    if (angle := _angle(own, other)) > _TILTED:
        return f"it is tilted by {angle:.3g} degrees"
    shift = np.linalg.norm(own.affine[:3, 3] - other.affine[:3, 3])
    return f"its first voxel lies {shift:.3g} mm away"


def _angle(own: Geometry, other: Geometry) -> float:
    """Angle in degrees by which axes of two grids are rotated against each other."""
    matrices = own.affine[:3, :3], other.affine[:3, :3]
    axes, others = (matrix / np.linalg.norm(matrix, axis=0) for matrix in matrices)
    return float(np.degrees(np.arccos(np.clip((np.trace(axes.T @ others) - 1) / 2, -1, 1))))


def _by(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers) or "?"


def _check_sizes(affine: NDArray[np.float64], pixdim: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    """An axis of one voxel has no size that matters."""
    long = np.array(shape) > 1
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(sizes[long], pixdim[long], rtol=_SIZES_AGREE):
        raise RefusedError(
            f"its header tells voxels of {_by(tuple(sizes))} (affine) and of {_by(tuple(pixdim))} (pixdim); "
            "correct it, or export it again"
        )


def _check_forms(header: Any) -> None:
    """A form that aligns to a template (codes above 2) may point elsewhere than the scanner's."""
    from nibabel.orientations import aff2axcodes

    forms = header.get_sform(), header.get_qform()
    if not np.isfinite(forms[1]).all():
        raise RefusedError("its header's qform is not finite; export it again")
    codes = ["".join(code or "?" for code in aff2axcodes(form)) for form in forms]
    if codes[0] != codes[1] and max(header["sform_code"], header["qform_code"]) <= 2:
        raise RefusedError(
            f"its header tells axes to {codes[0]} (sform) and to {codes[1]} (qform); correct it, or export "
            "it again"
        )
