"""Closed lines are filled class by class; a line that is open is named."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mucald.data.images.masks import ClassIds
from mucald.data.images.stored import read_stored
from mucald.errors import DataError
from mucald.tasks import TASKS, Task

BINARY, THREE = TASKS["kvasir"], TASKS["fetal"]


def read(task: Task, path: Path, drawn: NDArray[np.uint8]) -> NDArray[np.uint8]:
    Image.fromarray(drawn).save(path)
    return ClassIds(task, {}).of(path, read_stored(path), outline=True)[0][0]


def outlines(*shapes: tuple[int, tuple[int, int, int, int]]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Ellipses as lines of one pixel, and as areas."""
    lines, areas = Image.new("L", (64, 48)), Image.new("L", (64, 48))
    for label, box in shapes:
        ImageDraw.Draw(lines).ellipse(box, outline=label)
        ImageDraw.Draw(areas).ellipse(box, outline=label, fill=label)
    return np.asarray(lines), np.asarray(areas)


@pytest.mark.parametrize(
    "shapes",
    [
        [(1, (4, 4, 30, 28)), (2, (36, 10, 58, 40))],
        [(1, (4, 4, 50, 40)), (2, (14, 12, 34, 30))],
        [(2, (4, 4, 50, 40)), (1, (14, 12, 34, 30))],
        [(2, (4, 4, 20, 20)), (2, (30, 10, 60, 40))],
    ],
    ids=["apart", "within", "within, the other way", "two of a class"],
)
def test_each_class_is_filled_on_its_own(shapes, tmp_path):
    lines, areas = outlines(*shapes)
    assert np.array_equal(read(THREE, tmp_path / "m.png", lines), areas)
    assert np.array_equal(read(THREE, tmp_path / "m.png", areas), areas)


@pytest.mark.parametrize("width", [1, 3, 5])
def test_outlines_that_do_not_close_or_leave_the_image_are_named(width, tmp_path):
    picture = Image.new("L", (128, 96))
    ImageDraw.Draw(picture).arc((10, 10, 100, 80), 20, 340, fill=1, width=width)
    with pytest.raises(DataError, match=r"m.png: an outline of polyp does not close \(rows \d+ to \d+"):
        read(BINARY, tmp_path / "m.png", np.asarray(picture))
    picture = Image.new("L", (128, 96))
    ImageDraw.Draw(picture).ellipse((60, 20, 190, 80), outline=1, width=width)
    with pytest.raises(DataError, match=r"m.png: an outline of polyp leaves the image"):
        read(BINARY, tmp_path / "m.png", np.asarray(picture))


def test_an_area_that_touches_the_border_is_no_outline(tmp_path):
    picture = Image.new("L", (128, 96))
    ImageDraw.Draw(picture).ellipse((60, 20, 190, 80), fill=1)
    areas = np.asarray(picture)
    assert np.array_equal(read(BINARY, tmp_path / "m.png", areas), areas)
