"""Look at all images and masks of a site before it trains, and note what each was taken for."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mucald.console import watched
from mucald.data.checked import SeenImages
from mucald.data.files import count
from mucald.data.images.geometry import plausible
from mucald.data.images.readers import Sample, SetReader
from mucald.data.measures import Measures
from mucald.data.records.layouts import Record, find_set
from mucald.data.records.splits import divided
from mucald.data.site_file import SiteFile
from mucald.errors import DataError
from mucald.tasks import Task, get_task

EXAMPLES = 8
OBLONG = 2.0
"""A pixel of a slice is hardly longer than so many times its width."""


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one readable image.

    Args:
        record: its files, patient and split.
        shape: slices, height, width.
        encoding: what its files were taken for, in words.
        orientation: where the axes of a NIfTI file point; empty for a picture.
        spacing: sizes of a pixel in mm along the stored axes, None where the file does not tell them.
        low, high: least and greatest value as stored, over all channels that are read.
        window: the values that its first channel shows as black and white; None where it has 8 bits.
        mask: what its mask was taken for, and which value for which class, in words.
        pixels: pixels of each class (C,).
        slices_with: slices that hold each class (C,).
        measures: of every slice (slices, n), at full resolution, NaN where undefined.
        doubts: see :class:`mucald.data.images.readers.Sample`.
    """

    record: Record
    shape: tuple[int, int, int]
    encoding: str
    orientation: str
    spacing: tuple[float, ...] | None
    low: float
    high: float
    window: tuple[float, float] | None
    mask: str
    pixels: NDArray[np.int64]
    slices_with: NDArray[np.int64]
    measures: NDArray[np.float64]
    doubts: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Its first file."""
        return self.record.images[0]


@dataclass(frozen=True)
class Example:
    """A slice for the eye: image (H x W x 3) and labels (H x W), both uint8."""

    name: str
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


@dataclass
class Survey:
    """What was found.

    Args:
        task: the site's task.
        measures: what was measured.
        unused: what lies beside the images or is said of them and is not used, in words.
        images: those that could be read, in the order of their splits and names.
        unreadable: what is wrong with the others, in words that name files.
        split_fault: why the images cannot be divided, if they cannot.
        examples: a few slices, spread over the images.
        seen: the content of the images.
    """

    task: Task
    measures: tuple[str, ...]
    unused: list[str]
    images: list[ImageFacts] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    split_fault: str | None = None
    examples: list[Example] = field(default_factory=list)
    seen: SeenImages = field(default_factory=SeenImages)

    @property
    def faults(self) -> list[str]:
        """What must be mended before the site can train, which refuses it too."""
        return self.seen.faults(self.split_fault, self.unreadable)

    @property
    def remarks(self) -> list[str]:
        """What is odd and hinders nothing."""
        doubts = Counter(words for image in self.images for words in image.doubts)
        found = self.unused + [
            f"{count(number, 'image', 'images')}: {words}" for words, number in sorted(doubts.items())
        ]
        pointing = sorted({image.orientation for image in self.images} - {"", "not told"})
        if len(pointing) > 1:
            found.append(f"the axes of the images point differently: {', '.join(pointing)}")
        sizes = [size for image in self.images for size in image.spacing or ()]
        if not plausible(sizes):
            found.append(f"voxels measure {min(sizes):.3g} to {max(sizes):.3g} mm; check the headers' units")
        return found + self._odd_pixels() + (self._odd_classes() if self.images else [])

    def _odd_pixels(self) -> list[str]:
        found = []
        sides = [image.spacing[:2] for image in self.images if image.spacing is not None]
        if oblong := [pair for pair in sides if max(pair) > OBLONG * min(pair)]:
            found.append(
                f"{count(len(oblong), 'image has', 'images have')} slices whose pixels measure "
                f"{oblong[0][0]:.3g} x {oblong[0][1]:.3g} mm; the third axis must count slices"
            )
        flat = sum(image.low == image.high for image in self.images)
        return found + [f"{count(flat, 'image holds', 'images hold')} one value alone"] * (flat > 0)

    def _odd_classes(self) -> list[str]:
        present = np.sum([image.slices_with for image in self.images], axis=0)
        classes = list(zip(self.task.classes, present, strict=True))
        pixels = np.sum([image.pixels for image in self.images], axis=0)
        most = int(pixels.argmax())
        inverted = bool(most > 0 and 2 * pixels[most] > pixels.sum() and present[0] > 0)
        share = f"{self.task.classes[most]} covers {pixels[most] / pixels.sum():.0%} of all pixels"
        return [f"{share}; check that 0 is background"] * inverted + [
            f"no mask holds {name}" for name, slices in classes if not slices
        ]


def survey(site_file: SiteFile, measures: Measures) -> Survey:
    """Read every image and mask of a site and measure them; one that cannot be read ends nothing.

    Raises:
        DataError: the files do not have the layout that the site file names, so there is nothing to read.
    """
    task, image_set = get_task(site_file.task), find_set(site_file)
    found = Survey(task, measures.names, image_set.unused)
    # Records carry the split that their layout gives; this is the one that a job uses.
    records, found.split_fault = divided(image_set.records, site_file)
    shown = set(np.linspace(0, len(records) - 1, EXAMPLES).astype(int).tolist())
    reader = SetReader(task, site_file.value_map)
    for index, record in enumerate(watched(records, "images")):
        try:
            sample = reader.read(record)
        except DataError as error:
            found.unreadable.append(str(error))
            continue
        found.images.append(_facts(record, sample, task, measures))
        found.seen.add(record, sample.image.pixels, sample.labels)
        if index in shown:
            found.examples.append(_example(record, sample))
    return found


def _facts(record: Record, sample: Sample, task: Task, measures: Measures) -> ImageFacts:
    files, geometry = sample.image.files, sample.image.first.geometry
    counts = np.stack([np.bincount(mask.reshape(-1), minlength=task.n_classes) for mask in sample.labels])
    pairs = zip(sample.image.pixels, sample.labels, strict=True)
    return ImageFacts(
        record=record,
        shape=sample.labels.shape,
        encoding=" + ".join(stored.encoding for stored in files),
        orientation="" if geometry is None else geometry.orientation,
        spacing=None if geometry is None else geometry.spacing,
        low=float(min(stored.values.min() for stored in files)),
        high=float(max(stored.values.max() for stored in files)),
        window=sample.image.window,
        mask=sample.mask,
        pixels=counts.sum(axis=0),
        slices_with=(counts > 0).sum(axis=0),
        measures=np.array([measures.of(*pair) for pair in pairs]),
        doubts=sample.doubts,
    )


def _example(record: Record, sample: Sample) -> Example:
    fullest = int((sample.labels > 0).sum(axis=(1, 2)).argmax())
    return Example(record.images[0].name, sample.image.pixels[fullest], sample.labels[fullest])
