"""Segment images with a trained model, and write masks and a summary."""

import csv
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mucald.console import watched
from mucald.data.images.geometry import Geometry
from mucald.data.images.readers import read_image
from mucald.data.images.squares import resize
from mucald.errors import DataError, MucaldError, explained
from mucald.inference.images import Input, write_mask
from mucald.tasks import Task

SUMMARY = "summary.csv"

Predict = Callable[[Tensor], Tensor]
"""Gives logits (B, C, S, S) for a batch of images (B, 3, S, S) in [0, 1]."""


@dataclass(frozen=True)
class Segmenter:
    """Segments images of any size.

    Args:
        predict: the model.
        image_size: side S of the squares that it takes.
        batch_size: most images in one call.
    """

    predict: Predict
    image_size: int
    batch_size: int

    def segment(self, slices: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Return the class ids (uint8, H x W) of every slice (uint8, H x W x 3).

        An image is resized to a square as in training; the logits are then resized back, bilinearly, and the
        largest decides, so that a mask's outline is not made of the square's coarser pixels.
        """
        masks: list[NDArray[np.uint8]] = []
        for start in range(0, len(slices), self.batch_size):
            chosen = slices[start : start + self.batch_size]
            squares = [resize(image, self.image_size, Image.Resampling.BILINEAR) for image in chosen]
            pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
            # In the memory layout of training, for the last bits depend on it.
            logits = self._logits(pixels.contiguous().to(torch.float32) / 255)
            masks += [_labels(one, image.shape[:2]) for one, image in zip(logits, chosen, strict=True)]
        return masks

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        return self.predict(images).cpu()


def _labels(logits: Tensor, size: tuple[int, ...]) -> NDArray[np.uint8]:
    if tuple(logits.shape[1:]) != size:
        logits = F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
    return logits.argmax(dim=0).to(torch.uint8).numpy()


def check_apart(inputs: Sequence[Input], out: Path) -> None:
    """Check that no image lies in the folder of the masks, which might replace it.

    Raises:
        DataError: one does.
    """
    for image in inputs:
        if any(path.parent.resolve() == out.resolve() for path in image.files):
            raise DataError(f"{out} is where {image.files[0]} lies; write the masks into another folder")


def predict_images(inputs: Sequence[Input], segmenter: Segmenter, task: Task, out: Path) -> list[str]:
    """Write the mask of every image and :data:`SUMMARY` into ``out``.

    The summary has a row per slice: file, mask, slice, and of every foreground class its pixels and, where
    the file tells a pixel's size, its area in mm². An image that cannot be read has a row that says why.

    Returns:
        what could not be read, in words.

    Raises:
        DataError: see :func:`check_apart`.
    """
    check_apart(inputs, out)
    out.mkdir(parents=True, exist_ok=True)
    faults = []
    with (out / SUMMARY).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(_columns(task))
        for image, geometry, masks, fault in _segmented(inputs, segmenter):
            lines: list[list[str]] = []
            if fault is None:
                lines, fault = _written(image, geometry, masks, task, out)
            if fault is not None:
                faults.append(str(fault))
                lines = [[image.files[0].name, "", "", *[""] * 2 * (task.n_classes - 1), str(fault)]]
            writer.writerows([as_text(cell) for cell in line] for line in lines)
    return faults


def as_text(cell: str) -> str:
    r"""Return a cell as text; bytes of a file's name that are none are written as in ``a\xff.png``."""
    return cell.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _written(
    image: Input, geometry: Geometry | None, masks: Sequence[NDArray[np.uint8]], task: Task, out: Path
) -> tuple[list[list[str]], MucaldError | None]:
    """Write an image's mask; return its rows of the summary, or why there is none."""
    try:
        write_mask(image, np.stack(masks), out)
        return list(_rows(image, geometry, masks, task)), None
    except Exception as error:  # noqa: BLE001 - whatever one image's header or the disk throws ends no batch
        return [], explained(error, reading=image.files[0])


_Segmented = tuple[Input, Geometry | None, list[NDArray[np.uint8]], MucaldError | None]


def _segmented(inputs: Sequence[Input], segmenter: Segmenter) -> Iterator[_Segmented]:
    """Yield every image with its slices' masks; batches run on over files, as in the run's test."""
    slices: list[NDArray[np.uint8]] = []
    masks: list[NDArray[np.uint8]] = []
    waiting: deque[tuple[Input, Geometry | None, int]] = deque()

    def complete(least: int) -> Iterator[_Segmented]:
        while len(slices) >= least and slices:
            masks.extend(segmenter.segment(slices[: segmenter.batch_size]))
            del slices[: segmenter.batch_size]
        while waiting and len(masks) >= waiting[0][2]:
            image, geometry, count = waiting.popleft()
            yield image, geometry, masks[:count], None
            del masks[:count]

    for image in watched(inputs, "images"):
        try:
            if image.fault:
                raise DataError(image.fault)
            found = read_image(image.files)
        except Exception as error:  # noqa: BLE001 - whatever a damaged file throws ends no batch
            yield image, None, [], explained(error, reading=image.files[0])
            continue
        waiting.append((image, found.first.geometry, len(found.pixels)))
        slices.extend(found.pixels)
        yield from complete(segmenter.batch_size)
    yield from complete(1)


def _columns(task: Task) -> list[str]:
    classes = [column for name in task.classes[1:] for column in (f"{name}, pixels", f"{name}, mm2")]
    return ["file", "mask", "slice", *classes, "fault"]


def _rows(
    image: Input, geometry: Geometry | None, masks: Sequence[NDArray[np.uint8]], task: Task
) -> Iterator[list[str]]:
    spacing = None if geometry is None else geometry.spacing
    # A slice is what training takes for one: the first two axes.
    area = None if spacing is None else spacing[0] * spacing[1]
    for number, mask in enumerate(masks):
        cells = []
        for count in np.bincount(mask.reshape(-1), minlength=task.n_classes)[1:]:
            cells += [str(count), "" if area is None else f"{count * area:.6g}"]
        yield [image.files[0].name, image.mask_name, str(number), *cells, ""]
