"""What a site's images are like, as one HTML page for its data manager."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from mucald.data.images.summary import MOST_LISTED, summaries
from mucald.data.images.survey import Survey
from mucald_studies.reporting.page import Page, Picture, Table
from mucald_studies.reporting.pictures import outlined, png

STAYS = "This page holds images, file names and patients' numbers. It stays at the site."
SIDE = 256
_WORDS = {"group": 4}
"""Columns of words of a table, by the first one's header; others have one."""


def data_document(survey: Survey) -> Page:
    """Return the report on a site's images, with examples that show the outlines of their masks."""
    rest = len(survey.faults) - MOST_LISTED
    content = {
        "stays": STAYS,
        "task": survey.task.name,
        "faults": survey.faults[:MOST_LISTED] + [f"and {rest} more"] * (rest > 0),
        "remarks": survey.remarks,
        "tables": [
            (summary.title, Table(summary.columns, summary.rows, _WORDS.get(summary.columns[0], 1)))
            for summary in summaries(survey)
        ],
        "examples": list(_examples(survey)),
    }
    return Page("data.md", content)


def _examples(survey: Survey) -> Iterator[Picture]:
    for number, example in enumerate(survey.examples):
        pair = Image.new("RGB", (2 * SIDE, SIDE))
        image = Image.fromarray(example.image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        # Outlines are drawn after the change of size, or those of large images would fade.
        labels = Image.fromarray(example.labels).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        pair.paste(image)
        pair.paste(Image.fromarray(outlined(np.asarray(image), np.asarray(labels))), (SIDE, 0))
        yield Picture(f"example_{number}.png", png(pair), example.name)
