"""An axial CT slice of the chest with infiltrates in the lungs."""

import numpy as np

from mucald.data.images.phantoms.canvas import (
    Field,
    Image,
    Mask,
    ellipse,
    finish,
    grid,
    irregular,
    smooth_noise,
    soft,
)

AIR, LUNG, MUSCLE, BONE, VESSEL = 4.0, 42.0, 172.0, 240.0, 165.0


def draw_lung(rng: np.random.Generator, size: int) -> tuple[Image, Mask]:
    """Draw two dark lungs around the heart; patchy grey infiltrates hug the outer wall, vessels distract.

    Extensive disease follows the wall, hence stands upright.
    """
    scale, shift = rng.uniform(0.88, 1.02), rng.uniform(-0.06, 0.06)
    body = ellipse(size, (0.0, shift), (0.96 * scale, 0.74 * scale), 0.0)
    lungs = [_lung(rng, size, side, scale, shift) for side in (-1, 1)]
    lung = np.maximum(*lungs)
    heart = irregular(rng, size, (0.08, shift - 0.08), (0.27 * scale, 0.34 * scale), rng.uniform(0, 1), 0.04)
    lung = np.minimum(lung, -heart)

    infiltrates = _infiltrates(rng, size, lung, scale, shift)
    image = AIR + (MUSCLE + 10 * smooth_noise(rng, size, 10) - AIR) * soft(body, 0.02)
    for spot in [(0.0, shift + 0.52 * scale)] + [(s * 0.82 * scale, shift + 0.1) for s in (-1, 1)]:
        image += (BONE - image) * soft(ellipse(size, spot, (0.09, 0.08), 0.0), 0.03)
    inside = soft(lung, 0.02)
    # Blood pools in the dependent lung, which greys it much as disease does.
    pooling = rng.uniform(0, 24) * (grid(size)[1] - shift + 0.5)
    image += (LUNG + pooling + 9 * smooth_noise(rng, size, 16) - image) * inside
    vessels = soft(smooth_noise(rng, size, 24) - 1.6, 0.25) * soft(lung - 0.05, 0.03)
    image += (VESSEL - image) * vessels
    haze = rng.uniform(0.45, 0.9) * soft(infiltrates, 0.05) * inside
    image += (138 + 16 * smooth_noise(rng, size, 14) - image) * haze
    mask = ((infiltrates > 0) & (lung > 0)).astype(np.uint8)
    return finish(rng, np.repeat(np.clip(image, 0, 255)[..., None], 3, axis=2), 8.0), mask


def _lung(rng: np.random.Generator, size: int, side: int, scale: float, shift: float) -> Field:
    axes = (0.33 * scale * rng.uniform(0.9, 1.05), 0.56 * scale)
    return irregular(rng, size, (side * 0.48 * scale, shift), axes, side * 0.12, 0.03)


def _infiltrates(rng: np.random.Generator, size: int, lung: Field, scale: float, shift: float) -> Field:
    """Depth inside the infiltrates: noisy patches about one to four places of the lungs' outer wall."""
    count, slant = rng.integers(1, 5), rng.uniform(-0.9, 0.9)
    extent = 0.13 + 0.03 * count
    patches = np.full((size, size), -np.inf)
    for _ in range(count):
        direction, side = rng.uniform(-0.9, 1.2), rng.choice([-1, 1])
        centre = (
            side * scale * (0.48 + 0.2 * np.cos(direction)),
            shift + scale * 0.38 * np.sin(direction),
        )
        axes = (extent * rng.uniform(0.6, 0.9), extent * rng.uniform(1.1, 1.9))
        patches = np.maximum(patches, ellipse(size, centre, axes, side * slant + rng.uniform(-0.3, 0.3)))
    ragged = 0.05 * smooth_noise(rng, size, 9) + 0.025 * smooth_noise(rng, size, 20)
    depth = np.minimum(patches + ragged, lung)
    # At least a twentieth of the lungs is ill, so that no image lacks the class.
    return depth - min(0.0, float(np.quantile(depth[lung > 0], 0.95)))
