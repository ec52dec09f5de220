"""Fills the closed lines that some sets publish in place of areas."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mucald.errors import DataError
from mucald.tasks import Task

_THIN = 8
"""A line is longer than so many times its width."""


def filled(layer: NDArray[np.uint8], path: Path, task: Task) -> NDArray[np.uint8]:
    """Fill the outlines of each class on its own (H x W); where classes overlap the smaller one stays.

    An area that is filled already stays as it is.

    Raises:
        DataError: an outline of the mask ``path`` does not close.
    """
    from scipy import ndimage  # only sites whose masks are outlines pay for its import

    areas = []
    for label in np.unique(layer[layer > 0]).tolist():
        drawn = layer == label
        parts, count = ndimage.label(drawn, structure=np.ones((3, 3)))
        for number in range(1, count + 1):
            _check_closed(parts == number, f"{path}: an outline of {task.classes[label]}")
        areas.append((label, ndimage.binary_fill_holes(drawn)))
    result = layer.copy()
    for label, area in sorted(areas, key=lambda pair: -int(pair[1].sum())):
        result[area & (layer == 0)] = label
    return result


def _check_closed(part: NDArray[np.bool_], name: str) -> None:
    from scipy import ndimage

    rows, columns = (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
    box = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if ndimage.binary_fill_holes(box).sum() > box.sum():
        return
    width = 2 * ndimage.distance_transform_edt(np.pad(box, 1)).max() - 1
    if max(box.shape) <= _THIN * width:
        return
    sides = (rows[0], columns[0], part.shape[0] - 1 - rows[-1], part.shape[1] - 1 - columns[-1])
    what = "leaves the image" if min(sides) == 0 else "does not close"
    raise DataError(
        f"{name} {what} (rows {rows[0]} to {rows[-1]}, columns {columns[0]} to {columns[-1]}); draw it "
        "closed, or save the mask as an area",
        public="an outline does not close",
    )
