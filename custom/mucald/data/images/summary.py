"""What a survey found as tables: a summary by kind, and a row per image."""

import csv
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mucald.data.files import count, plain
from mucald.data.images.survey import ImageFacts, Survey
from mucald.data.records.layouts import SPLITS

MOST_LISTED = 50


@dataclass(frozen=True)
class Summary:
    """A table: its title, headers, and cells."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in (self.columns, *self.rows))
        return "\n".join((self.title, *(f"  {line}" for line in lines)))


def summaries(survey: Survey) -> list[Summary]:
    """Return a survey's tables, for text and page."""
    images = survey.images
    if not images:
        return [_counts(survey)]
    columns: dict[str, Callable[[ImageFacts], str]] = {
        "Images are read as": lambda image: image.encoding,
        "Masks are read as": lambda image: image.mask,
        "Width x height": lambda image: f"{image.shape[2]} x {image.shape[1]}",
        "Spacing in mm": _spacing,
        "Axes point to": lambda image: image.orientation or "not told",
    }
    frequent = [_frequent(title, map(value, images)) for title, value in columns.items()]
    return [
        _counts(survey),
        *frequent,
        _intensities(images),
        _classes(survey),
        *_measured(survey),
        *_copies(survey),
    ]


def write_files(survey: Survey, path: Path) -> None:
    """Write a row per image that could be read: what it and its mask were taken for, and its classes."""
    rows = [_row(image, survey) for image in survey.images]
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=rows[0] if rows else ["image"])
        writer.writeheader()
        writer.writerows(rows)


def _row(image: ImageFacts, survey: Survey) -> dict[str, object]:
    slices, height, width = image.shape
    black, white = image.window or (0.0, 255.0)
    return {
        "image": " ".join(map(str, image.record.images)),
        "mask": image.record.mask,
        "patient": image.record.case,
        "split": image.record.split,
        "image, as read": image.encoding,
        "mask, as read": image.mask,
        "slices": slices,
        "height": height,
        "width": width,
        "spacing in mm": _spacing(image),
        "axes point to": image.orientation,
        "lowest": image.low,
        "highest": image.high,
        "black": black,
        "white": white,
        **{f"{name}, pixels": n for name, n in zip(survey.task.classes, image.pixels, strict=True)},
    }


def _counts(survey: Survey) -> Summary:
    rows = []
    for name in (*SPLITS, "all"):
        chosen = [image for image in survey.images if name in (image.record.split, "all")]
        patients, slices = {image.record.case for image in chosen}, sum(image.shape[0] for image in chosen)
        rows.append([name, *map(str, (len(patients), len(chosen), slices))])
    rows.append(["unreadable", "", str(len(survey.unreadable)), ""])
    return Summary("Counts", ("split", "patients", "images", "slices"), rows)


def _spacing(image: ImageFacts) -> str:
    return "not told" if image.spacing is None else " x ".join(f"{size:.4g}" for size in image.spacing)


def _frequent(what: str, values: Iterable[str]) -> Summary:
    counter = Counter(values)
    common = counter.most_common(MOST_LISTED)
    rest = counter.total() - sum(count for _, count in common)
    rows = [[name, str(count)] for name, count in common] + [["other", str(rest)]] * (rest > 0)
    return Summary(what, ("value", "images"), rows)


def _intensities(images: list[ImageFacts]) -> Summary:
    ends = {"lowest value": [i.low for i in images], "highest value": [i.high for i in images]}
    windows = [image.window for image in images if image.window is not None]
    if windows:
        ends |= {f"shown as {name}": [w[end] for w in windows] for end, name in enumerate(("black", "white"))}
    rows = [
        [name, *(plain(value) for value in (min(values), np.median(values), max(values)))]
        for name, values in ends.items()
    ]
    return Summary("Intensities", ("of an image, as stored", "least", "median", "greatest"), rows)


def _classes(survey: Survey) -> Summary:
    pixels = np.sum([image.pixels for image in survey.images], axis=0)
    present = np.sum([image.slices_with for image in survey.images], axis=0)
    slices = sum(image.shape[0] for image in survey.images)
    rows = [
        [f"{label} {name}", str(count), f"{100 * count / pixels.sum():.2f} %", f"{here} of {slices}"]
        for label, (name, count, here) in enumerate(zip(survey.task.classes, pixels, present, strict=True))
    ]
    return Summary("Classes", ("class", "pixels", "share", "slices with it"), rows)


def _measured(survey: Survey) -> list[Summary]:
    """Of every slice, at full resolution, in pixels; undefined where the class is absent."""
    values = np.concatenate([image.measures for image in survey.images])
    rows = []
    for index, name in enumerate(survey.measures):
        known = values[np.isfinite(values[:, index]), index]
        numbers: Iterable[str] = ["-"] * 4
        if len(known):
            spread = known.std(ddof=1) if len(known) > 1 else 0.0
            numbers = [plain(value) for value in (known.mean(), spread, known.min(), known.max())]
        rows.append([name, f"{len(known)} of {len(values)}", *numbers])
    columns = ("proxy", "defined", "mean", "standard deviation", "least", "greatest")
    return [Summary("Proxies of slices, in pixels", columns, rows)] if rows else []


def _copies(survey: Survey) -> list[Summary]:
    rows = [
        [
            str(number),
            ", ".join(record.images[0].name for record in group),
            ", ".join(sorted({record.case for record in group})),
            ", ".join(sorted({record.split for record in group})),
        ]
        for number, group in enumerate(survey.seen.copies[:MOST_LISTED], 1)
    ]
    groups = count(len(survey.seen.copies), "group of images has", "groups of images have")
    title = f"{groups} the same pixels"
    return [Summary(title, ("group", "files", "patients", "splits"), rows)] if rows else []
