"""Class ids of masks: what stored values mean is decided once for a whole set, and outlines are filled."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mucald.data.images.pictures import WHITE
from mucald.data.images.stored import Stored
from mucald.errors import DataError
from mucald.tasks import Task

Labels = NDArray[np.uint8]
Values = NDArray[np.int64]

_ROUNDING = 1e-3
"""What the scale in a NIfTI header may leave of a whole number."""
_LOSSY_GAP = 32
"""Least distance of two values that a lossy compression keeps apart."""
_LOSSY_SHARE, _LOSSY_SHIFT = 0.1, 0.35
"""Of a lossy mask: most pixels that may be far from any class, and the farthest where classes are three."""
_THIN = 8
"""A line is longer than so many times its width."""
_PUBLIC = "a mask is no map of class ids"


class ClassIds:
    """Tells the class of each pixel of the masks of one set.

    Args:
        task: tells the classes.
        value_map: class id per stored value (``mask_values`` of the site file); other values are ids.
    """

    def __init__(self, task: Task, value_map: Mapping[int, int]):
        self._task = task
        self._value_map = dict(value_map)
        self._binary = not value_map and task.n_classes == 2
        self._decided: tuple[int, Path] | None = None
        self._lossy: Path | None = None

    def of(self, path: Path, stored: Stored, outline: bool = False) -> tuple[Labels, str]:
        """Return class ids (uint8, slices x H x W), and what was taken for what, in words.

        Two-class masks without ``value_map`` hold 0 and 1, or 0 and 255, and all of a set the same; the first
        that tells decides. JPEG blurs values, so those of a lossy file are snapped to the nearest known one.

        Args:
            path: the mask.
            stored: its content.
            outline: whether closed outlines are filled.

        Raises:
            DataError: the mask is coloured, holds fractions or a value that is no class, holds another kind
                of values than the masks before it, or may be read in two ways; an outline does not close.
        """
        labels, words = self._coded(path, stored) if stored.codes is not None else self._plain(path, stored)
        if outline:
            labels = np.stack([_filled(layer, path, self._task) for layer in labels])
            words += ", outlines filled"
        return labels, words

    def _plain(self, path: Path, stored: Stored) -> tuple[Labels, str]:
        values = _whole(path, stored)
        value_map = self._value_map or self._guessed(path, values, stored.lossy)
        if stored.lossy and (value_map or not self._binary):
            values = self._snapped(path, values, value_map)
        return self._mapped(path, values, value_map), _words(values, value_map)

    def _guessed(self, path: Path, values: Values, lossy: bool) -> dict[int, int]:
        top = int(values.max(initial=0))
        if not self._binary:
            return {}
        if lossy and self._lossy is None:
            self._lossy = path
        ids = top == 1 if self._decided is None else self._decided[0] == 1
        if ids and self._lossy is not None:
            raise DataError(
                f"{self._lossy}: the masks of its set hold 0 and 1, which a lossy format does not keep; save "
                "it as PNG",
                public=_PUBLIC,
            )
        if top == 0:
            return {}
        if lossy and top <= WHITE // 2:
            raise DataError(
                f"{path}: the mask holds values up to {top} in a lossy format, which are neither 0 and 255 "
                "nor class ids; save it as PNG",
                public=_PUBLIC,
            )
        kind = 1 if top == 1 else WHITE
        known, other = self._decided or (kind, path)
        if kind != known:
            raise DataError(
                f"{path}: the mask holds 0 and {min(top, WHITE)}, but {other} holds 0 and {known}; save all "
                "masks of the set alike, or tell what 255 means with 'mask_values' in site.json",
                public="the masks of a set hold different values",
            )
        foreign = values[~np.isin(values, (0, kind))]
        if foreign.size and not lossy:
            raise self._no_class(path, int(foreign[0]))
        self._decided = known, other
        return {} if kind == 1 else {WHITE: 1}

    def _snapped(self, path: Path, values: Values, value_map: Mapping[int, int]) -> Values:
        levels = np.array(sorted({0, *(value_map or range(self._task.n_classes))}))
        gap = int(np.diff(levels).min())
        if gap < _LOSSY_GAP:
            raise DataError(
                f"{path}: a lossy format blurs values as close as {', '.join(map(str, levels))}; save the "
                "mask as PNG",
                public=_PUBLIC,
            )
        found = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]
        apart = np.abs(values - found) / gap
        if (apart > 0.25).mean() > _LOSSY_SHARE or (len(levels) > 2 and apart.max() > _LOSSY_SHIFT):
            raise DataError(
                f"{path}: lossy compression has blurred the mask, so that values lie far from "
                f"{', '.join(map(str, levels))}; save it as PNG",
                public=_PUBLIC,
            )
        return found

    def _coded(self, path: Path, stored: Stored) -> tuple[Labels, str]:
        """A palette's numbers and greys, or few bits and the greys that they show, may both be class ids."""
        assert stored.codes is not None
        codes, shown = stored.codes.astype(np.int64), stored.values.astype(np.int64)
        coloured = shown.ndim > codes.ndim
        readings = {} if coloured else {"greys": shown}
        # Where black, which is background, has another number than 0, the palette's order means nothing.
        if not codes[(shown == 0).all(axis=-1) if coloured else shown == 0].any():
            readings["numbers"] = codes
        if not readings:
            raise self._ambiguous(path, "its palette has colours in an order of its own")
        value_map = self._value_map or ({WHITE: 1} if self._binary else {})
        fitting = {name: values for name, values in readings.items() if self._fits(values, value_map)}
        named = {n: v for n, v in fitting.items() if self._value_map and self._fits(v, value_map, ids=False)}
        chosen = (named if len(named) == 1 else fitting) or readings
        name, values = next(iter(chosen.items()))
        labels = self._mapped(path, values, value_map)
        if any((self._mapped(path, other, value_map) != labels).any() for other in chosen.values()):
            raise self._ambiguous(path, "both the greys that it shows and its numbers may be class ids")
        return labels, f"{name} of a palette or of few bits: {_words(values, value_map)}"

    def _ambiguous(self, path: Path, why: str) -> DataError:
        return DataError(f"{path}: {why}; save the mask as one channel of class ids", public=_PUBLIC)

    def _fits(self, values: Values, value_map: Mapping[int, int], ids: bool = True) -> bool:
        """Whether all values are mapped or, where ``ids``, class ids."""
        return bool(np.isin(values, [0, *value_map, *(range(self._task.n_classes) if ids else ())]).all())

    def _mapped(self, path: Path, values: Values, value_map: Mapping[int, int]) -> Labels:
        labels = values.copy()
        for value, label in value_map.items():
            labels[values == value] = label
        wrong = labels[(labels < 0) | (labels >= self._task.n_classes)]
        if wrong.size:
            raise self._no_class(path, int(wrong.min()))
        return labels.astype(np.uint8)

    def _no_class(self, path: Path, value: int) -> DataError:
        classes = self._task.classes
        return DataError(
            f"{path}: the mask holds the value {value}, but task {self._task.name} has the classes 0 to "
            f"{len(classes) - 1} ({', '.join(classes)}); map it with 'mask_values' in site.json",
            public=f"a mask holds a value that is no class of task {self._task.name}",
        )


def _whole(path: Path, stored: Stored) -> Values:
    """The values of a mask as whole numbers, slices x H x W."""
    values = stored.values
    if values.ndim == 4:
        spread = values.max(axis=-1).astype(np.int64) - values.min(axis=-1)
        if spread.max(initial=0) > (_LOSSY_GAP if stored.lossy else 0):
            raise DataError(
                f"{path}: the mask is coloured; save it as one channel of class ids", public=_PUBLIC
            )
        values = values[..., 0]
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if not np.isfinite(values).all():
        raise DataError(f"{path}: the mask holds NaN or infinity; export it again", public=_PUBLIC)
    whole = np.rint(values)
    if np.abs(whole - values).max(initial=0) > _ROUNDING or np.abs(whole).max(initial=0) > 2**31:
        raise DataError(f"{path}: the mask holds fractions; save it as whole class ids", public=_PUBLIC)
    return whole.astype(np.int64)


def _words(values: Values, value_map: Mapping[int, int]) -> str:
    return ", ".join(
        f"{value} is class {value_map.get(value, value)}" for value in np.unique(values).tolist()
    )


def _filled(layer: Labels, path: Path, task: Task) -> Labels:
    """Fill the outlines of each class on its own (H x W); where classes overlap the smaller one stays.

    An area that is filled already stays as it is.
    """
    from scipy import ndimage  # only sites whose masks are outlines pay for its import

    areas = []
    for label in np.unique(layer[layer > 0]).tolist():
        drawn = layer == label
        parts, count = ndimage.label(drawn, structure=np.ones((3, 3)))
        for number in range(1, count + 1):
            _check_closed(parts == number, f"{path}: an outline of {task.classes[label]}")
        areas.append((label, ndimage.binary_fill_holes(drawn)))
    filled = layer.copy()
    for label, area in sorted(areas, key=lambda pair: -int(pair[1].sum())):
        filled[area & (layer == 0)] = label
    return filled


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
