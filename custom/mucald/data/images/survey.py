"""Look at all images and masks of a site before it trains, and note whatever is odd about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mucald.data.images.geometry import spacing_mm
from mucald.data.images.readers import RGB_CHANNELS, read_image, read_record, read_stored
from mucald.data.layouts import Record, find_records
from mucald.data.measures import Measures
from mucald.data.patients import content_hash, copies
from mucald.data.site_file import SiteFile
from mucald.data.splits import split_records
from mucald.errors import DataError
from mucald.tasks import Task, get_task

EXAMPLES = 8


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one readable image.

    Args:
        path: its first file.
        case: patient or volume.
        split: where it trains or tests.
        shape: slices, height, width.
        spacing: pixel's size in mm, None where the file does not tell it.
        low, high: least and greatest value as stored, over all channels that are read; NaN where some is not
            finite.
        pixels: pixels of each class (C,).
        slices_with: slices that hold each class (C,).
        measures: of every slice (slices, n), at full resolution, NaN where undefined.
        digest: hash of its pixels.
    """

    path: Path
    case: str
    split: str
    shape: tuple[int, int, int]
    spacing: tuple[float, ...] | None
    low: float
    high: float
    pixels: NDArray[np.int64]
    slices_with: NDArray[np.int64]
    measures: NDArray[np.float64]
    digest: str


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
        images: those that could be read, in the order of their splits and names.
        unreadable: what is wrong with the others, in words that name files.
        split_fault: why the images cannot be divided, if they cannot.
        examples: a few slices, spread over the images.
    """

    task: Task
    measures: tuple[str, ...]
    images: list[ImageFacts] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    split_fault: str | None = None
    examples: list[Example] = field(default_factory=list)

    @property
    def copies(self) -> list[list[ImageFacts]]:
        """Groups of images with the same pixels."""
        by_name = {str(image.path): image for image in self.images}
        groups = copies((name, image.digest) for name, image in by_name.items())
        return [[by_name[name] for name in names] for names in groups]

    @property
    def leaks(self) -> list[list[ImageFacts]]:
        """Groups of copies that lie in more than one split."""
        return [group for group in self.copies if len({image.split for image in group}) > 1]

    @property
    def faults(self) -> list[str]:
        """What must be mended before the site can train, or would make its test worthless."""
        found = [*([self.split_fault] if self.split_fault else []), *self.unreadable]
        for group in self.leaks:
            places = ", ".join(f"{image.path} ({image.split})" for image in group)
            found.append(f"the same image in several splits: {places}")
        return found


def survey(site_file: SiteFile, measures: Measures) -> Survey:
    """Read every image and mask of a site and measure them; one that cannot be read ends nothing.

    Raises:
        DataError: the files do not have the layout that the site file names, so there is nothing to read.
    """
    task, records = get_task(site_file.task), find_records(site_file)
    found = Survey(task, measures.names)
    try:
        # Records carry the split that their layout gives; this is the one that a job uses.
        divided = split_records(records, site_file)
        records = [replace(record, split=name) for name, chosen in divided.items() for record in chosen]
    except DataError as error:
        found.split_fault = str(error)
    shown = set(np.linspace(0, len(records) - 1, EXAMPLES).astype(int).tolist())
    for index, record in enumerate(records):
        try:
            facts, example = _look(record, task, measures, site_file.value_map)
        except DataError as error:
            found.unreadable.append(str(error))
            continue
        found.images.append(facts)
        if index in shown:
            found.examples.append(example)
    return found


def _look(
    record: Record, task: Task, measures: Measures, value_map: dict[int, int]
) -> tuple[ImageFacts, Example]:
    pixels, labels = read_record(record, task, value_map)
    stored = [read_stored(path) for path in record.images[:RGB_CHANNELS]]
    counts = np.stack([np.bincount(mask.reshape(-1), minlength=task.n_classes) for mask in labels])
    facts = ImageFacts(
        path=record.images[0],
        case=record.case,
        split=record.split,
        shape=labels.shape,
        spacing=spacing_mm(record.images[0]),
        low=float(min(values.min() for values in stored)),
        high=float(max(values.max() for values in stored)),
        pixels=counts.sum(axis=0),
        slices_with=(counts > 0).sum(axis=0),
        measures=np.array([measures.of(*pair) for pair in zip(pixels, labels, strict=True)]),
        digest=content_hash(pixels),
    )
    fullest = int(counts[:, 1:].sum(axis=1).argmax())
    return facts, Example(record.images[0].name, pixels[fullest], labels[fullest])


def check_copies(splits: Mapping[str, Sequence[Record]]) -> None:
    """Check that no image lies in two splits under different names, which is a patient in both.

    Raises:
        DataError: naming the two, or an image that cannot be read.
    """
    split_of: dict[str, str] = {}
    hashes = []
    for split, records in splits.items():
        for record in records:
            name = str(record.images[0])
            split_of[name] = split
            hashes.append((name, content_hash(read_image(record.images))))
    for names in copies(hashes):
        for name in names[1:]:
            if split_of[name] != split_of[names[0]]:
                raise DataError(
                    f"{names[0]} ('{split_of[names[0]]}') and {name} ('{split_of[name]}') are the same image "
                    "in two splits; remove one, or give both one patient",
                    public="images of two splits are the same",
                )
