"""What a site's images are like, as text and as one HTML page for its data manager."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from PIL import Image

from mucald.data.images.survey import ImageFacts, Survey
from mucald.data.layouts import SPLITS
from mucald_studies.reporting.document import (
    Bullets,
    Cell,
    Document,
    Heading,
    Paragraph,
    Picture,
    Pictures,
    Table,
)
from mucald_studies.reporting.pictures import outlined, png

STAYS = "This page holds images, file names and patients' numbers. It stays at the site."
SIDE = 160
_MOST_LISTED = 50


def data_document(survey: Survey, pictures: bool) -> Document:
    """Return the report on a site's images.

    Args:
        survey: what was found.
        pictures: whether to show examples with the outlines of their masks.
    """
    document = Document()
    document.add(Heading(f"Images of task {survey.task.name}", 1), Paragraph(STAYS, "warning"))
    document.add(Heading("Faults"), *_faults(survey))
    document.add(Heading("Counts"), _counts(survey))
    if survey.images:
        document.add(Heading("Sizes, spacing, intensities"), *_geometry(survey))
        document.add(Heading("Classes"), _classes(survey))
        document.add(Heading("Proxies"), *_proxies(survey))
        document.add(Heading("Copies"), *_copies(survey))
    if pictures and survey.examples:
        document.add(Heading("Examples"), Pictures(_pictures(survey)))
    return document


def _faults(survey: Survey) -> list[Bullets | Paragraph]:
    faults = survey.faults
    if not faults:
        return [Paragraph("None: every image and mask can be read, and no copy lies in two splits.")]
    return [Bullets(_listed(faults))]


def _listed(items: list[str]) -> list[str]:
    rest = len(items) - _MOST_LISTED
    return items if rest <= 0 else [*items[:_MOST_LISTED], f"and {rest} more"]


def _counts(survey: Survey) -> Table:
    rows = []
    for name in (*SPLITS, "all"):
        chosen = [image for image in survey.images if name in (image.split, "all")]
        cases = len({image.case for image in chosen})
        slices = sum(image.shape[0] for image in chosen)
        rows.append([name, str(cases), str(len(chosen)), str(slices)])
    rows.append(["unreadable", "", str(len(survey.unreadable)), ""])
    return Table(("split", "patients", "images", "slices"), rows)


def _geometry(survey: Survey) -> list[Table]:
    sizes = Counter(f"{image.shape[2]} x {image.shape[1]}" for image in survey.images)
    spacings = Counter(_spacing(image) for image in survey.images)
    low = np.array([image.low for image in survey.images])
    high = np.array([image.high for image in survey.images])
    ranges = [
        [name, *(f"{value:g}" for value in (values.min(), np.median(values), values.max()))]
        for name, values in (("lowest value", low), ("highest value", high))
    ]
    return [
        Table(("width x height", "images"), _frequent(sizes)),
        Table(("spacing in mm", "images"), _frequent(spacings)),
        Table(("of an image, as stored", "least", "median", "greatest"), ranges),
    ]


def _spacing(image: ImageFacts) -> str:
    return "not told" if image.spacing is None else " x ".join(f"{size:.4g}" for size in image.spacing)


def _frequent(counter: Counter[str]) -> list[list[str]]:
    common = counter.most_common(_MOST_LISTED)
    rest = counter.total() - sum(count for _, count in common)
    rows = [[name, str(count)] for name, count in common]
    return rows if not rest else [*rows, ["other", str(rest)]]


def _classes(survey: Survey) -> Table:
    pixels = np.sum([image.pixels for image in survey.images], axis=0)
    present = np.sum([image.slices_with for image in survey.images], axis=0)
    slices = sum(image.shape[0] for image in survey.images)
    rows = [
        [f"{label} {name}", str(count), f"{100 * count / pixels.sum():.2f} %", f"{here} of {slices}"]
        for label, (name, count, here) in enumerate(zip(survey.task.classes, pixels, present, strict=True))
    ]
    return Table(("class", "pixels", "share", "slices with it"), rows)


def _proxies(survey: Survey) -> list[Paragraph | Table]:
    values = np.concatenate([image.measures for image in survey.images])
    rows = []
    for index, node in enumerate(survey.measures):
        known = values[np.isfinite(values[:, index]), index]
        numbers: Iterable[str] = ["-"] * 4
        if len(known):
            spread = known.std(ddof=1) if len(known) > 1 else 0.0
            numbers = [f"{value:.4g}" for value in (known.mean(), spread, known.min(), known.max())]
        rows.append([node, f"{len(known)} of {len(values)}", *numbers])
    note = "Of every slice, at full resolution, in pixels; undefined where the class is absent."
    columns = ("proxy", "defined", "mean", "standard deviation", "least", "greatest")
    return [Paragraph(note, "note"), Table(columns, rows)]


def _copies(survey: Survey) -> list[Paragraph | Table]:
    if not survey.copies:
        return [Paragraph("No two images have the same pixels.")]
    rows: list[list[Cell | str]] = [
        [
            str(number + 1),
            Cell(", ".join(image.path.name for image in group), long=True),
            Cell(", ".join(sorted({image.case for image in group})), long=True),
            Cell(", ".join(sorted({image.split for image in group})), long=True),
        ]
        for number, group in enumerate(survey.copies[:_MOST_LISTED])
    ]
    return [
        Paragraph(f"{len(survey.copies)} groups of images have the same pixels."),
        Table(("group", "files", "patients", "splits"), rows),
    ]


def _pictures(survey: Survey) -> list[Picture]:
    found = []
    for number, example in enumerate(survey.examples):
        pair = Image.new("RGB", (2 * SIDE, SIDE))
        images = (example.image, outlined(example.image, example.labels))
        for column, pixels in enumerate(images):
            square = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            pair.paste(square, (column * SIDE, 0))
        found.append(Picture(f"example_{number}", png(pair), example.name))
    return found
