"""Writes the pictures that the tests of the data modules read."""

from pathlib import Path

import numpy as np
from PIL import Image

from mucald.randomness import generator


def write_pair(
    image: Path, mask: Path, index: int = 0, size: tuple[int, int] = (16, 20), top: int = 1
) -> None:
    """Write a noise picture (height, width) and a mask with a rectangle of the value ``top``."""
    pixels = generator("picture", index).integers(0, 256, (*size, 3), dtype=np.uint8)
    labels = np.zeros(size, np.uint8)
    labels[3 : 8 + index % 5, 4:12] = top
    for path, array in ((image, pixels), (mask, labels)):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
