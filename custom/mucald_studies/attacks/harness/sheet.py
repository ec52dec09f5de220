"""A picture sheet: per site and split the originals, and below them what each attack made of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mucald_studies.attacks.harness.evaluation import Attacked

COLUMNS = 8
SMALLEST_TILE = 64
GAP, LABEL_WIDTH = 4, 190


def write_sheet(path: Path, found: Sequence[Attacked]) -> bool:
    """Write the sheet as a PNG; return False, and write nothing, if no attack made pictures.

    It shows images of the sites: for phantoms, or for the eyes of whoever may see them.
    """
    groups: list[list[Attacked]] = []
    for attacked in found:
        if attacked.pictures is None:
            continue
        matching = [group for group in groups if _same(group[0], attacked)]
        if matching:
            matching[0].append(attacked)
        else:
            groups.append([attacked])
    rows: list[tuple[str, Tensor]] = []
    for group in groups:
        first = group[0]
        assert first.originals is not None
        rows.append((f"{first.result.site}, {first.result.target} images", first.originals))
        rows += [(_label(a), a.pictures) for a in group if a.pictures is not None]
    if not rows:
        return False
    tile = max(SMALLEST_TILE, rows[0][1].shape[-1])
    sheet = Image.new(
        "RGB", (LABEL_WIDTH + COLUMNS * (tile + GAP) + GAP, len(rows) * (tile + GAP) + GAP), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for index, (label, images) in enumerate(rows):
        top = GAP + index * (tile + GAP)
        draw.text((GAP, top + tile // 2 - 16), label, fill="black", font=font)
        for column, image in enumerate(images[:COLUMNS]):
            sheet.paste(_tile(image, tile), (LABEL_WIDTH + GAP + column * (tile + GAP), top))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
    return True


def _same(one: Attacked, other: Attacked) -> bool:
    """Return whether two attacks went for the same images in the same order."""
    if one.originals is None or other.originals is None:
        return False
    return one.originals.equal(other.originals)


def _label(attacked: Attacked) -> str:
    return f"{attacked.result.attack}\n{attacked.result.metrics['psnr'].value:.1f} dB"


def _tile(image: Tensor, side: int) -> Image.Image:
    pixels = (image.clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
