"""A frontier as files: JSON, a table in Markdown, and a drawing."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mucald import __version__
from mucald.state.files import write_atomically
from mucald_studies.frontier.row import Row, Strongest, front_of
from mucald_studies.reporting.figures import Dot, scatter, svg
from mucald_studies.reporting.page import Cell, Page, Picture, Table
from mucald_studies.reporting.tables import NOTHING

SCHEMA = 1
_COLUMNS = (
    "point",
    "Dice",
    "strongest reconstruction",
    "PSNR [dB]",
    "gain over the mean image [dB]",
    "masks inferred, Dice (blind)",
    "membership, AUC",
    "kB per image",
)
_NOT_FLAT = " *"
_CAPTION = "Mean test Dice against the strongest reconstruction's gain over the mean image"


def write_frontier(rows: Sequence[Row], settings: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``frontier.json``, ``frontier.md`` and ``figures/frontier.svg``; return their paths.

    ``settings`` is what the JSON says of base job, seeds, attacks and budget.
    """
    content = {
        "schema": SCHEMA,
        "version": __version__,
        **settings,
        "pareto": [row.point for row in front_of(rows)],
        "points": [row.to_dict() for row in rows],
    }
    path = folder / "frontier.json"
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    return [path, *page(rows).write(folder, "frontier.md")]


def page(rows: Sequence[Row]) -> Page:
    """Return the page of a frontier."""
    front = {row.point for row in front_of(rows)}
    dots = [
        Dot(row.point, found.value, (found.low, found.high), row.dice)
        for row in rows
        if (found := row.reconstruction) is not None and row.dice is not None
    ]
    axes = ("gain of the strongest reconstruction over the mean image [dB]", "mean test Dice")
    content = {
        "table": Table(_COLUMNS, [_cells(row, row.point in front) for row in rows]),
        "drawing": [Picture("frontier.svg", svg(scatter(dots, *axes), "frontier"), _CAPTION)] if dots else [],
    }
    return Page("frontier.md", content)


def _cells(row: Row, on_front: bool) -> list[Cell | str]:
    pictures, masks, members = row.reconstruction, row.masks, row.membership
    return [
        Cell(row.point, bold=on_front),
        NOTHING if row.dice is None else f"{row.dice:.3f}",
        pictures.attack + _NOT_FLAT * (not pictures.flat) if pictures else NOTHING,
        f"{pictures.psnr:.1f}" if pictures and pictures.psnr is not None else NOTHING,
        _interval(pictures, 2),
        f"{_interval(masks, 3)} ({masks.blind:.3f})" if masks else NOTHING,
        _interval(members, 3),
        f"{row.kb_per_image:.0f}",
    ]


def _interval(found: Strongest | None, digits: int) -> str:
    if found is None:
        return NOTHING
    value, low, high = (f"{number:.{digits}f}" for number in (found.value, found.low, found.high))
    return f"{value} ({low} … {high})"
