"""What a site's images are like, as text and as one HTML page for its data manager."""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from mucald.data.images.survey import ImageFacts, Survey
from mucald.data.layouts import SPLITS
from mucald_studies.reporting.page import Page, Picture, Table
from mucald_studies.reporting.pictures import outlined, png

STAYS = "This page holds images, file names and patients' numbers. It stays at the site."
SIDE = 160
_MOST_LISTED = 50


def data_document(survey: Survey, pictures: bool) -> Page:
    """Return the report on a site's images.

    Args:
        survey: what was found.
        pictures: whether to show examples with the outlines of their masks.
    """
    images, rest = survey.images, len(survey.faults) - _MOST_LISTED
    more = [f"and {rest} more"] if rest > 0 else []
    content = {
        "stays": STAYS,
        "survey": survey,
        "faults": survey.faults[:_MOST_LISTED] + more,
        "counts": _counts(survey),
        "examples": list(_examples(survey)) if pictures else [],
    }
    if images:
        content |= {
            "sizes": _frequent("width x height", (f"{i.shape[2]} x {i.shape[1]}" for i in images)),
            "spacings": _frequent("spacing in mm", map(_spacing, images)),
            "intensities": _intensities(survey),
            "classes": _classes(survey),
            "proxies": _proxies(survey),
            "copies": _copies(survey),
        }
    return Page("data.md", content)


def _counts(survey: Survey) -> Table:
    rows = []
    for name in (*SPLITS, "all"):
        chosen = [image for image in survey.images if name in (image.split, "all")]
        slices = sum(image.shape[0] for image in chosen)
        rows.append([name, *map(str, (len({image.case for image in chosen}), len(chosen), slices))])
    rows.append(["unreadable", "", str(len(survey.unreadable)), ""])
    return Table(("split", "patients", "images", "slices"), rows)


def _spacing(image: ImageFacts) -> str:
    return "not told" if image.spacing is None else " x ".join(f"{size:.4g}" for size in image.spacing)


def _frequent(what: str, values: Iterable[str]) -> Table:
    counter = Counter(values)
    common = counter.most_common(_MOST_LISTED)
    rest = counter.total() - sum(count for _, count in common)
    rows = [[name, str(count)] for name, count in common] + [["other", str(rest)]] * (rest > 0)
    return Table((what, "images"), rows)


def _intensities(survey: Survey) -> Table:
    rows = []
    for name, end in (("lowest value", "low"), ("highest value", "high")):
        values = np.array([getattr(image, end) for image in survey.images])
        rows.append([name, *(f"{value:g}" for value in (values.min(), np.median(values), values.max()))])
    return Table(("of an image, as stored", "least", "median", "greatest"), rows)


def _classes(survey: Survey) -> Table:
    pixels = np.sum([image.pixels for image in survey.images], axis=0)
    present = np.sum([image.slices_with for image in survey.images], axis=0)
    slices = sum(image.shape[0] for image in survey.images)
    rows = [
        [f"{label} {name}", str(count), f"{100 * count / pixels.sum():.2f} %", f"{here} of {slices}"]
        for label, (name, count, here) in enumerate(zip(survey.task.classes, pixels, present, strict=True))
    ]
    return Table(("class", "pixels", "share", "slices with it"), rows)


def _proxies(survey: Survey) -> Table:
    values = np.concatenate([image.measures for image in survey.images])
    rows = []
    for index, node in enumerate(survey.measures):
        known = values[np.isfinite(values[:, index]), index]
        numbers: Iterable[str] = ["-"] * 4
        if len(known):
            spread = known.std(ddof=1) if len(known) > 1 else 0.0
            numbers = [f"{value:.4g}" for value in (known.mean(), spread, known.min(), known.max())]
        rows.append([node, f"{len(known)} of {len(values)}", *numbers])
    return Table(("proxy", "defined", "mean", "standard deviation", "least", "greatest"), rows)


def _copies(survey: Survey) -> Table:
    rows = [
        [
            str(number + 1),
            ", ".join(image.path.name for image in group),
            ", ".join(sorted({image.case for image in group})),
            ", ".join(sorted({image.split for image in group})),
        ]
        for number, group in enumerate(survey.copies[:_MOST_LISTED])
    ]
    return Table(("group", "files", "patients", "splits"), rows, words=4)


def _examples(survey: Survey) -> Iterator[Picture]:
    for number, example in enumerate(survey.examples):
        pair = Image.new("RGB", (2 * SIDE, SIDE))
        for column, pixels in enumerate((example.image, outlined(example.image, example.labels))):
            square = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            pair.paste(square, (column * SIDE, 0))
        yield Picture(f"example_{number}.png", png(pair), example.name)
