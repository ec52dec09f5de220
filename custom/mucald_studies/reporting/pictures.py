"""Example predictions, where a run's folders hold any: only phantoms' do, unless a site's file allows it."""

import logging
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mucald.metrics.segmentation import telling_images
from mucald.results.tensorboard import PREVIEW_TAG
from mucald_studies.reporting.page import Picture
from mucald_studies.reporting.runs import Run

_CASES = ("best", "median", "worst")
_SERVER_FOLDERS = ("server", "simulate_job")
_EVENTS = "tb_events"
# It tells at level INFO of every file that has no successor, in the log of the run.
logging.getLogger("tensorboard").setLevel(logging.WARNING)
GAP = 1
OUTLINES = ((255, 214, 10), (0, 200, 255), (255, 64, 129), (118, 255, 3))
"""Colours of the foreground classes, in their order."""


def run_folder(run: Run) -> Path:
    """Return the folder that holds all that a run left: above the server's own."""
    folder = run.path.parent
    while folder.name in _SERVER_FOLDERS:
        folder = folder.parent
    return folder


def site_examples(run: Run, site: str) -> list[Picture]:
    """Return a site's best, median and worst test case: image, labels and prediction side by side.

    Empty if the site's folder holds no pictures.
    """
    dice = run.sites[site].get("dice_per_image", ())
    rows = telling_images(dice)
    sheet = _newest_sheet(run, site)
    if sheet is None or sheet.height * 3 != sheet.width * len(rows):
        return []
    return [
        Picture(f"{site}-{case}.png", png(_row(sheet, index)), f"{case}: Dice {dice[row]:.3f}")
        for index, (case, row) in enumerate(zip(_CASES, rows, strict=False))
    ]


def _newest_sheet(run: Run, site: str) -> Image.Image | None:
    # Imported here: it takes a second, and most reports have no pictures to read.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tag = PREVIEW_TAG.format(site=site)
    found: list[tuple[float, bytes]] = []
    root = run_folder(run)
    for folder in sorted(root.rglob(_EVENTS)):
        if site in folder.relative_to(root).parts:
            events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
            if tag in events.Tags()["images"]:
                found += [(event.wall_time, event.encoded_image_string) for event in events.Images(tag)]
    return Image.open(BytesIO(max(found)[1])).convert("RGB") if found else None


def _row(sheet: Image.Image, index: int) -> Image.Image:
    """Return row ``index`` of a sheet with a white line between its three tiles."""
    side = sheet.width // 3
    row = Image.new("RGB", (sheet.width + 2 * GAP, side), "white")
    for column in range(3):
        tile = sheet.crop((column * side, index * side, (column + 1) * side, (index + 1) * side))
        row.paste(tile, (column * (side + GAP), 0))
    return row


def png(image: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def outlined(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``image`` (H x W x 3) with the outline of every foreground class of ``labels`` in its colour."""
    picture = image.copy()
    for label in np.unique(labels[labels > 0]):
        region = labels == label
        picture[region & ~ndimage.binary_erosion(region)] = OUTLINES[label - 1]
    return picture
