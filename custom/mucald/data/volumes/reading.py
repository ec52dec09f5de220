"""The one reader of volumes, which training, checks, plans and prediction use alike."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mucald.data.files import reading
from mucald.data.images.geometry import Geometry
from mucald.data.images.masks import ClassIds
from mucald.data.images.pictures import RefusedError
from mucald.data.images.stored import Stored, placed_over, read_stored
from mucald.data.records.descriptions import read_description
from mucald.data.records.layouts import Record
from mucald.data.records.regions import has_regions, region_values
from mucald.data.site_file import SiteFile
from mucald.errors import DataError
from mucald.tasks import Task

Spacing = tuple[float, float, float]

_SKEWED = 0.01
"""Largest cosine between two axes that are taken for perpendicular."""
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Turn:
    """How the axes of a file become right, anterior and superior: the same in other order, or backwards.

    Args:
        orientation: of the file's axes (3 x 2), as :mod:`nibabel.orientations` writes it.
    """

    orientation: NDArray[np.float64]

    def of(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return a volume (X x Y x Z) as its file has it with turned axes."""
        from nibabel.orientations import apply_orientation

        return np.ascontiguousarray(apply_orientation(volume, self.orientation))

    def undone(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return what :meth:`of` has turned, as it was."""
        from nibabel.orientations import apply_orientation, ornt_transform

        upright = np.array([[0, 1], [1, 1], [2, 1]])
        return np.ascontiguousarray(apply_orientation(volume, ornt_transform(upright, self.orientation)))

    def sizes(self, sizes: Spacing) -> Spacing:
        """Return sizes of a voxel along the file's axes in the order of the turned ones."""
        order = np.argsort(self.orientation[:, 0])
        return sizes[order[0]], sizes[order[1]], sizes[order[2]]


@dataclass(frozen=True)
class ReadVolume:
    """A volume whose axes point right, forwards and upwards as nearly as they can.

    Args:
        values: float32, C x X x Y x Z, as stored.
        spacing: sizes of a voxel in mm along these axes.
        geometry: the first file's grid.
        turn: what was done to the file's axes.
        first: the first file.
    """

    values: NDArray[np.float32]
    spacing: Spacing
    geometry: Geometry
    turn: Turn
    first: Stored


@dataclass(frozen=True)
class VolumeSample:
    """A volume and what is told of it.

    Args:
        volume: the volume.
        labels: class ids, uint8, X x Y x Z; None where it has one class.
        words: what the mask was taken for.
        mask: the mask's grid, if it has one.
    """

    volume: ReadVolume
    labels: NDArray[np.uint8] | None
    words: str
    mask: Geometry | None = None

    def target_of(self, record: Record) -> NDArray[Any]:
        """Return the mask, or the class as an array without axes."""
        return np.array(record.label, dtype=np.int64) if self.labels is None else self.labels


class VolumeReader:
    """Reads the volumes of one set, all in one way.

    Args:
        task: the site's.
        value_map: class id per stored mask value, see :func:`values_of`.
    """

    def __init__(self, task: Task, value_map: Mapping[int, int]):
        self._task, self._ids = task, ClassIds(task, value_map)

    def read(self, record: Record) -> VolumeSample:
        """Read a volume and its mask, which is turned where its header says that its axes are.

        Raises:
            DataError: see :func:`read_volume`; or the mask lies elsewhere, or holds what is no class.
        """
        volume = read_volume(record.images, self._task)
        if record.label is not None:
            return VolumeSample(volume, None, "")
        mask = read_stored(record.mask)
        values = placed_over(mask.values, mask, volume.first, record.mask, record.images[0])
        labels, words = self._ids.of(record.mask, replace(mask, values=values))
        words = f"{mask.encoding}: {words}"
        return VolumeSample(volume, volume.turn.of(np.moveaxis(labels, 0, -1)), words, mask.geometry)


def values_of(site_file: SiteFile, task: Task) -> dict[int, int]:
    """Return the class per stored mask value that a site file or its set's regions tell; empty without.

    Raises:
        DataError: the regions do not fit the task.
    """
    if site_file.mask_values or site_file.layout != "nnunet" or task.target == "class":
        return site_file.value_map
    path = Path(site_file.root or "") / "dataset.json"
    description = read_description(path)
    return region_values(path, description, task) if has_regions(description) else {}


def read_volume(paths: tuple[Path, ...], task: Task) -> ReadVolume:
    """Read the files of a volume, one per channel.

    Raises:
        DataError: there are not as many files as channels; one is missing, damaged, no 3-D NIfTI, holds
            numbers that are not finite, tells no size of a voxel, has axes that are not perpendicular, or
            does not lie over the first.
    """
    if len(paths) != task.channels:
        raise DataError(
            f"{paths[0]}: the case has {len(paths)} file(s), but task {task.name} takes {task.channels} "
            f"channel(s) of {task.modality}; give one file per channel",
            public="a volume does not have its task's channels",
        )
    files = [read_stored(path) for path in paths]
    for path, stored in zip(paths, files, strict=True):
        with reading(path):
            _check(stored)
    channels = [
        placed_over(stored.values, stored, files[0], path, paths[0])
        for path, stored in zip(paths, files, strict=True)
    ]
    geometry = files[0].geometry
    assert geometry is not None
    spacing = geometry.spacing
    assert spacing is not None
    turn = _turn(geometry)
    values = np.stack([turn.of(np.moveaxis(one.astype(np.float32), 0, -1)) for one in channels])
    return ReadVolume(values, turn.sizes(spacing), geometry, turn, files[0])


def _turn(geometry: Geometry) -> Turn:
    from nibabel.orientations import io_orientation

    # Who tells no place tells no direction either; the axes are taken in the order that they have.
    return Turn(io_orientation(geometry.affine if geometry.told else np.eye(4)))


def _check(stored: Stored) -> None:
    if stored.geometry is None:
        raise RefusedError("is a picture; give a NIfTI volume")
    if stored.geometry.spacing is None:
        raise RefusedError("its header tells no size of a voxel, by which it is resampled; export it again")
    if (wrong := int((~np.isfinite(stored.values)).sum())) > 0:
        raise RefusedError(f"{wrong} of its voxels are NaN or infinite; replace them, or export it again")
    # Networks take float32, in which a larger number would become infinite.
    if (wrong := int((np.abs(stored.values) > _LARGEST).sum())) > 0:
        raise RefusedError(
            f"{wrong} of its voxels lie beyond {_LARGEST:.2g}, more than float32 holds; correct them, or the "
            "header's scale"
        )
    axes = stored.geometry.affine[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    skew = np.abs(axes.T @ axes - np.eye(3)).max()
    if skew > _SKEWED:
        angle = np.degrees(np.arccos(skew))
        raise RefusedError(
            f"its axes stand at {angle:.3g} degrees to each other instead of 90; resample it to a grid with "
            "perpendicular axes"
        )
