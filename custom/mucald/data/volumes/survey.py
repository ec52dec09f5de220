"""Look at all volumes of a site before it trains, and note what each was taken for and measures."""

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mucald.console import watched
from mucald.data.checked import SeenImages
from mucald.data.files import count, plain
from mucald.data.images.geometry import doubts, plausible
from mucald.data.images.summary import Summary
from mucald.data.records.layouts import SPLITS, Record, find_set
from mucald.data.records.splits import divided
from mucald.data.site_file import SiteFile
from mucald.data.volumes.reading import Spacing, VolumeReader, VolumeSample, values_of
from mucald.errors import DataError
from mucald.randomness import generator
from mucald.tasks import Task, get_task

MOST_SAMPLES = 10_000
"""So many voxels of a case are kept for statistics of intensities, as in nnU-Net."""


@dataclass(frozen=True)
class CaseFacts:
    """What is known of one readable volume.

    Args:
        record: its files, patient and split.
        shape: voxels along right, anterior and superior.
        spacing: sizes of a voxel along the same axes, mm.
        orientation: where the axes of its file point.
        encoding: what its files were taken for, in words.
        low, high: least and greatest value as stored, over all channels.
        voxels: voxels of each class (C,); of a task of classes volumes.
        samples: values of voxels drawn from the first channel's foreground, or from all of a task of classes.
        mask: what its mask was taken for, in words.
        doubts: what headers leave open, in words.
    """

    record: Record
    shape: tuple[int, ...]
    spacing: Spacing
    orientation: str
    encoding: str
    low: float
    high: float
    voxels: NDArray[np.int64]
    samples: NDArray[np.float32]
    mask: str
    doubts: tuple[str, ...]


@dataclass
class VolumeSurvey:
    """What was found; fields and faults are those of :class:`mucald.data.images.survey.Survey`."""

    task: Task
    unused: list[str]
    images: list[CaseFacts] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    split_fault: str | None = None
    seen: SeenImages = field(default_factory=SeenImages)

    @property
    def faults(self) -> list[str]:
        """What must be mended before the site can train, which refuses it too."""
        return self.seen.faults(self.split_fault, self.unreadable)

    @property
    def remarks(self) -> list[str]:
        """What is odd and hinders nothing."""
        open_questions = Counter(words for case in self.images for words in case.doubts)
        found = self.unused + [
            f"{count(number, 'volume', 'volumes')}: {words}"
            for words, number in sorted(open_questions.items())
        ]
        pointing = sorted({case.orientation for case in self.images})
        if len(pointing) > 1:
            found.append(f"axes point differently ({', '.join(pointing)}); all are turned to RAS")
        sizes = [size for case in self.images for size in case.spacing]
        if not plausible(sizes):
            found.append(f"voxels measure {min(sizes):.3g} to {max(sizes):.3g} mm; check the headers' units")
        flat = sum(case.low == case.high for case in self.images)
        found += [f"{count(flat, 'volume holds', 'volumes hold')} one value alone"] * (flat > 0)
        if self.images:
            voxels = np.sum([case.voxels for case in self.images], axis=0)
            held = "no mask holds" if self.task.target == "mask" else "no case is"
            found += [f"{held} {name}" for name, n in zip(self.task.classes, voxels, strict=True) if not n]
        return found

    def tables(self) -> list[Summary]:
        """Return what was found as tables."""
        if not self.images:
            return [self._counts()]
        spread = Summary("Sizes", ("along", "", "least", "median", "greatest"), self._sizes())
        read_as = Counter(f"{case.encoding}; mask {case.mask or 'none'}" for case in self.images)
        encodings = [[words, str(number)] for words, number in read_as.most_common()]
        return [
            self._counts(),
            spread,
            Summary("Files are read as", ("value", "volumes"), encodings),
            self._classes(),
        ]

    def _counts(self) -> Summary:
        rows = []
        for name in (*SPLITS, "all"):
            chosen = [case for case in self.images if name in (case.record.split, "all")]
            rows.append([name, str(len({case.record.case for case in chosen})), str(len(chosen))])
        rows.append(["unreadable", "", str(len(self.unreadable))])
        return Summary("Counts", ("split", "patients", "volumes"), rows)

    def _sizes(self) -> list[list[str]]:
        rows = []
        for name, values in (("voxels", self.shapes()), ("mm", self.spacings())):
            for axis, title in enumerate(("right", "anterior", "superior")):
                column = values[:, axis]
                numbers = (column.min(), np.median(column), column.max())
                rows.append([title, name, *map(plain, numbers)])
        limits = {"lowest": [c.low for c in self.images], "highest": [c.high for c in self.images]}
        for name, ends in limits.items():
            numbers = (min(ends), np.median(ends), max(ends))
            rows.append([name, "value", *map(plain, numbers)])
        return rows

    def _classes(self) -> Summary:
        voxels = np.sum([case.voxels for case in self.images], axis=0)
        present = np.sum([case.voxels > 0 for case in self.images], axis=0)
        rows = [
            [f"{label} {name}", str(n), f"{100 * n / voxels.sum():.2f} %", f"{here} of {len(self.images)}"]
            for label, (name, n, here) in enumerate(zip(self.task.classes, voxels, present, strict=True))
        ]
        counted = "voxels" if self.task.target == "mask" else "volumes"
        return Summary("Classes", ("class", counted, "share", "volumes with it"), rows)

    def shapes(self) -> NDArray[np.float64]:
        """Return all shapes (N x 3)."""
        return np.array([case.shape for case in self.images], dtype=np.float64)

    def spacings(self) -> NDArray[np.float64]:
        """Return all spacings (N x 3), mm."""
        return np.array([case.spacing for case in self.images], dtype=np.float64)

    def write_files(self, path: Path) -> None:
        """Write a row per volume that could be read."""
        rows = [self._row(case) for case in self.images]
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=rows[0] if rows else ["image"])
            writer.writeheader()
            writer.writerows(rows)

    def _row(self, case: CaseFacts) -> dict[str, object]:
        counted = "voxels" if self.task.target == "mask" else "volumes"
        return {
            "image": " ".join(map(str, case.record.images)),
            "mask": case.record.mask,
            "patient": case.record.case,
            "split": case.record.split,
            "image, as read": case.encoding,
            "mask, as read": case.mask,
            "voxels": " x ".join(map(str, case.shape)),
            "spacing in mm": " x ".join(f"{size:.4g}" for size in case.spacing),
            "axes point to": case.orientation,
            "lowest": case.low,
            "highest": case.high,
            **{f"{name}, {counted}": n for name, n in zip(self.task.classes, case.voxels, strict=True)},
        }


def survey_volumes(site_file: SiteFile) -> VolumeSurvey:
    """Read every volume and mask of a site; one that cannot be read ends nothing.

    Raises:
        DataError: the files do not have the layout that the site file names, so there is nothing to read.
    """
    task, image_set = get_task(site_file.task), find_set(site_file)
    found = VolumeSurvey(task, image_set.unused)
    records, found.split_fault = divided(image_set.records, site_file)
    reader = VolumeReader(task, values_of(site_file, task))
    for record in watched(records, "volumes"):
        try:
            sample = reader.read(record)
        except DataError as error:
            found.unreadable.append(str(error))
            continue
        found.images.append(_facts(record, sample, task))
        found.seen.add(record, sample.volume.values, sample.target_of(record))
    return found


def _facts(record: Record, sample: VolumeSample, task: Task) -> CaseFacts:
    volume, labels = sample.volume, sample.labels
    first = volume.values[0]
    counted = np.array([record.label]) if labels is None else labels.reshape(-1)
    inside = first.reshape(-1) if labels is None else first[labels > 0]
    draws = generator("intensities", record.case)
    chosen = draws.choice(len(inside), min(len(inside), MOST_SAMPLES), replace=False)
    return CaseFacts(
        record=record,
        shape=first.shape,
        spacing=volume.spacing,
        orientation=volume.geometry.orientation,
        encoding=" + ".join([volume.first.encoding] * len(volume.values)),
        low=float(volume.values.min()),
        high=float(volume.values.max()),
        voxels=np.bincount(counted, minlength=task.n_classes),
        samples=inside[chosen],
        mask=sample.words,
        doubts=doubts([volume.geometry, *([sample.mask] if sample.mask is not None else [])]),
    )
