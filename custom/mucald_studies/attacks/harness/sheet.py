"""A picture sheet: per site and split the originals, and below them what each attack made of them."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from mucald_studies.attacks.harness.evaluation import Attacked

COLUMNS = 8


def write_sheet(path: Path, found: Sequence[Attacked]) -> bool:
    """Write the sheet as a PNG; return False, and write nothing, if no attack made pictures.

    It shows images of the sites: for phantoms, or for the eyes of whoever may see them.
    """
    groups: list[tuple[Tensor, list[tuple[str, Tensor]]]] = []
    for attacked in found:
        if attacked.originals is None or attacked.pictures is None:
            continue
        result, originals = attacked.result, attacked.originals
        rows = next((rows for known, rows in groups if known.equal(originals)), None)
        if rows is None:
            rows = [(f"{result.site}, {result.target} images", originals)]
            groups.append((originals, rows))
        rows.append((f"{result.attack}\n{result.metrics['psnr'].value:.1f} dB", attacked.pictures))
    shown = [row for _, rows in groups for row in rows]
    if not shown:
        return False
    figure = Figure((COLUMNS + 2, len(shown)), layout="constrained")
    for axes, (label, images) in zip(figure.subplots(len(shown), COLUMNS), shown, strict=True):
        axes[0].set_ylabel(label, rotation=0, ha="right", va="center", size=9)
        for place, cell in enumerate(axes):
            cell.set(xticks=[], yticks=[], frame_on=False)
            if place < len(images):
                cell.imshow(images[place].clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    return True
