"""What different devices make of the same scene, so that sites of one task differ as hospitals do."""

from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture

from mucald.data.images.phantoms.canvas import Colour, Image, Mask


@dataclass(frozen=True)
class Scanner:
    """A device, described by what it changes of an image; the defaults change nothing.

    Args:
        contrast: factor of the distance from mid-grey.
        brightness: grey levels that are added.
        colour: factors of red, green and blue.
        noise: standard deviation of what is added to each channel, in grey levels.
        resolution: share of the pixels per axis that the device tells apart, at most 1.
        zoom: how much larger everything is shown, at least 1; it changes the sizes that a site sees.
    """

    contrast: float = 1.0
    brightness: float = 0.0
    colour: Colour = (1.0, 1.0, 1.0)
    noise: float = 0.0
    resolution: float = 1.0
    zoom: float = 1.0

    def take(self, image: Image, mask: Mask, rng: np.random.Generator) -> tuple[Image, Mask]:
        """Return image (uint8, S x S x 3) and mask (uint8, S x S) as the device shows them."""
        if self == STANDARD:
            return image, mask
        size = len(image)
        margin = size * (1 - 1 / self.zoom) / 2
        box = (margin, margin, size - margin, size - margin)
        coarse = max(1, round(size * self.resolution))
        shown = Picture.fromarray(image).resize((coarse, coarse), Picture.Resampling.BILINEAR, box)
        shown = shown.resize((size, size), Picture.Resampling.BILINEAR)
        values = (np.asarray(shown, dtype=np.float64) - 127.5) * self.contrast + 127.5
        values = (values + self.brightness) * self.colour + self.noise * rng.standard_normal(values.shape)
        outlines = Picture.fromarray(mask).resize((size, size), Picture.Resampling.NEAREST, box)
        return np.clip(np.rint(values), 0, 255).astype(np.uint8), np.asarray(outlines)


STANDARD = Scanner()

SCANNERS: dict[str, Scanner] = {
    "standard": STANDARD,
    "dim": Scanner(contrast=0.75, brightness=-25.0, noise=4.0),
    "warm": Scanner(contrast=1.1, colour=(1.08, 0.97, 0.85)),
    "coarse": Scanner(resolution=0.5, noise=3.0),
    "close": Scanner(contrast=0.9, zoom=1.3),
    "old": Scanner(
        contrast=0.55, brightness=15.0, colour=(0.8, 1.0, 1.2), noise=14.0, resolution=0.6, zoom=1.15
    ),
}
"""The devices that a job can give its phantom sites. A device is one entry here."""
