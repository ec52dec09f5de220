"""Class ids of masks: what stored values mean is decided once for a whole set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mucald.data.images.outlines import filled
from mucald.data.images.pictures import DARK, WHITE
from mucald.data.images.stored import Stored
from mucald.errors import DataError
from mucald.tasks import Task

Labels = NDArray[np.uint8]
Values = NDArray[np.int64]

_ROUNDING = 1e-3
"""What the scale in a NIfTI header may leave of a whole number."""
_SAME = 1e-5
"""What rounding in float32 leaves between two equal numbers, as a share of them, or of 1."""
_LOSSY_GAP = 32
"""Least distance of two values that a lossy compression keeps apart."""
_LOSSY_SHARE, _LOSSY_SHIFT = 0.1, 0.35
"""Of a lossy mask: most pixels that may be far from any class, and the farthest where classes are three."""
_LOSSY_FAR, _LOSSY_FLAT = 0.25, 0.2
"""Shares of the distance of two classes: what is far from any, and the range of 3 x 3 pixels on no edge."""
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
        readings = {"": _whole(path, stored)} if stored.codes is None else self._readings(path, stored)
        if stored.lossy:
            readings = {name: self._snapped(path, values) for name, values in readings.items()}
        value_map = self._guessed(path, readings, stored.lossy) if self._binary else self._value_map
        name, values = self._chosen(path, readings, value_map)
        labels = self._mapped(path, values, value_map)
        words = f"{name} of a palette or of few bits: " * bool(name) + _words(values, value_map)
        if outline:
            labels = np.stack([filled(layer, path, self._task) for layer in labels])
            words += ", outlines filled"
        return labels, words

    def _readings(self, path: Path, stored: Stored) -> dict[str, Values]:
        """A palette's numbers and greys, or few bits and the greys that they show, may both be class ids."""
        assert stored.codes is not None
        codes, shown = stored.codes.astype(np.int64), stored.values.astype(np.int64)
        if stored.alike:
            # Its colours tell less than its numbers, so they are not what tells the classes.
            return {"numbers": codes}
        coloured = shown.ndim > codes.ndim
        black = (shown == 0).all(axis=-1) if coloured else shown == 0
        named = np.isin(codes, list(self._value_map)).all()
        empty = black.all() or ((shown <= DARK).all() and not (stored.dark or named))
        if empty and codes.any():
            raise self._ambiguous(
                path, f"all of it has the number {codes.max()}, which its palette shows as black"
            )
        readings = {} if coloured else {"greys": shown}
        # Where 0 is no background, which is black or nearly so, or black has another number than 0, the
        # palette's order means nothing, unless the site tells what each number means.
        if not codes[black].any() and (stored.dark or named):
            readings["numbers"] = codes
        if not readings:
            raise self._ambiguous(
                path,
                "its palette has colours in an order of its own, and 'mask_values' does not name each number",
            )
        return readings

    def _guessed(self, path: Path, readings: Mapping[str, Values], lossy: bool) -> dict[int, int]:
        """What values mean where two classes may be 0 and 1 or 0 and 255: the same in the whole set."""
        if lossy and self._lossy is None:
            self._lossy = path
        kinds = {kind for kind in map(_kind, readings.values()) if kind is not None}
        if not kinds:
            raise self._neither(path, next(iter(readings.values())))
        told = kinds - {0}
        known, other = self._decided or (None, path)
        if told and known not in (*told, None):
            raise DataError(
                f"{path}: the mask holds 0 and {max(told)}, but {other} holds 0 and {known}; save all masks "
                "of the set alike, or tell what 255 means with 'mask_values' in site.json",
                public="the masks of a set hold different values",
            )
        if known is None and len(told) == 1:
            known = told.pop()
            self._decided = known, path
        if known == 1 and self._lossy is not None:
            raise DataError(
                f"{self._lossy}: the masks of its set hold 0 and 1, which a lossy format does not keep; save "
                "it as PNG",
                public=_PUBLIC,
            )
        return {} if known == 1 else {WHITE: 1}

    def _neither(self, path: Path, values: Values) -> DataError:
        foreign = values[~np.isin(values, (0, 1, WHITE))]
        if foreign.size:
            return self._no_class(path, int(foreign.min()))
        return DataError(
            f"{path}: the mask holds both 1 and {WHITE}; tell the class of {WHITE} with 'mask_values' in "
            "site.json",
            public=_PUBLIC,
        )

    def _snapped(self, path: Path, values: Values) -> Values:
        levels = np.array(self._levels)
        gap = int(np.diff(levels).min())
        if gap < _LOSSY_GAP:
            raise DataError(
                f"{path}: a lossy format blurs values as close as {', '.join(map(str, levels))}; save the "
                "mask as PNG",
                public=_PUBLIC,
            )
        found = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]
        top = int(values.max(initial=0))
        if top > 0 and not found.any():
            raise DataError(
                f"{path}: the mask holds values up to {top} in a lossy format, which are near none of "
                f"{', '.join(map(str, levels[1:]))}; save it as PNG",
                public=_PUBLIC,
            )
        apart = np.abs(values - found) / gap
        far = apart > _LOSSY_FAR
        # Between classes lies what compression has left of an edge, but there values are steep.
        areas = values[far][_ranges(values)[far] < _LOSSY_FLAT * gap] if far.any() else values[far]
        if areas.size:
            raise DataError(
                f"{path}: the mask holds an area of about {areas[0]} in a lossy format, which is none of "
                f"{', '.join(map(str, levels))}; save it as PNG, and tell its class with 'mask_values' in "
                "site.json",
                public=_PUBLIC,
            )
        if far.mean() > _LOSSY_SHARE or (len(levels) > 2 and apart.max() > _LOSSY_SHIFT):
            raise DataError(
                f"{path}: lossy compression has blurred the mask, so that values lie far from "
                f"{', '.join(map(str, levels))}; save it as PNG",
                public=_PUBLIC,
            )
        return found

    @property
    def _levels(self) -> list[int]:
        """The values that a lossy mask may mean."""
        if self._value_map:
            return sorted({0, *self._value_map})
        return [0, WHITE] if self._binary else list(range(self._task.n_classes))

    def _chosen(
        self, path: Path, readings: Mapping[str, Values], value_map: Mapping[int, int]
    ) -> tuple[str, Values]:
        fitting = {name: values for name, values in readings.items() if self._fits(values, value_map)}
        named = {n: v for n, v in fitting.items() if self._value_map and self._fits(v, value_map, ids=False)}
        chosen = (named if len(named) == 1 else fitting) or readings
        name, values = next(iter(chosen.items()))
        if len(chosen) > 1:
            labels = [self._mapped(path, reading, value_map) for reading in chosen.values()]
            if (labels[0] != labels[1]).any():
                raise self._ambiguous(path, "both the greys that it shows and its numbers may be class ids")
        return name, values

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


def _ranges(values: Values) -> Values:
    """The difference of the largest and the smallest of the 3 x 3 pixels around each."""
    from scipy import ndimage  # only sites with lossy masks pay for its import

    around = (1, 3, 3)
    found: Values = ndimage.maximum_filter(values, around) - ndimage.minimum_filter(values, around)
    return found


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
    apart = np.abs(whole - values).max(initial=0)
    if apart > _ROUNDING or np.abs(whole).max(initial=0) > 2**31 or (apart > _SAME and _merges(values)):
        raise DataError(f"{path}: the mask holds fractions; save it as whole class ids", public=_PUBLIC)
    return whole.astype(np.int64)


def _merges(values: NDArray[Any]) -> bool:
    """Whether rounding makes one whole number of values that differ, or 0 of one that is not."""
    found = np.union1d(values, 0)
    return bool(
        ((np.diff(found) > _SAME * np.maximum(1, np.abs(found[1:]))) & (np.diff(np.rint(found)) == 0)).any()
    )


def _kind(values: Values) -> int | None:
    """1 or 255 where a mask holds nothing else but 0, 0 where it holds 0 alone, None otherwise."""
    top = int(values.max(initial=0))
    return top if top in (0, 1, WHITE) and np.isin(values, (0, top)).all() else None


def _words(values: Values, value_map: Mapping[int, int]) -> str:
    return ", ".join(
        f"{value} is class {value_map.get(value, value)}" for value in np.unique(values).tolist()
    )
