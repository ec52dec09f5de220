"""What joining brings against the number of images that a site has."""

from collections.abc import Sequence
from pathlib import Path

from mucald.errors import ReportError
from mucald_studies.reporting.comparability import find_alone, require_comparable
from mucald_studies.reporting.figures import Point, gain_curves, svg
from mucald_studies.reporting.joining import find_attacks, joining_table
from mucald_studies.reporting.page import Page, Picture, Table
from mucald_studies.reporting.runs import Method, find_runs, group_runs
from mucald_studies.reporting.statistics import MEAN, Comparison, compare_all
from mucald_studies.reporting.tables import NOTHING, gain

CAPTION = (
    "Mean gain in test Dice over training alone, with its 95 % bootstrap interval over seeds and images."
)


def learning_curve(folders: Sequence[Path]) -> Page:
    """Return a page of the runs of several folders; those of one folder have equally many images.

    Raises:
        ReportError: a folder holds no results, none of jobs in which every site trains alone, or methods
            that cannot be compared with it; or two folders have equally many images.
    """
    curves: dict[str, list[tuple[int, Comparison]]] = {}
    sizes: dict[int, Table | None] = {}
    for folder in folders:
        methods = group_runs(find_runs([folder]))
        alone = _alone(methods, folder)
        size = _images(alone)
        if size in sizes:
            raise ReportError(f"{folder}: its sites have {size} training images, as those of a folder before")
        sites = sorted(alone.first.sites)
        gains = compare_all(methods, alone, sites, ())
        sizes[size] = joining_table(methods, sites, gains, find_attacks([folder]))
        for method in methods:
            if (found := gains.get((method.label, MEAN))) is not None:
                curves.setdefault(method.label, []).append((size, found))
    return Page("learning_curve.md", _content(curves, sizes))


def _alone(methods: Sequence[Method], folder: Path) -> Method:
    alone = find_alone(methods)
    if alone is None:
        raise ReportError(f"{folder} has no run in which every site trains alone, such as consortium_local's")
    require_comparable(methods, alone)
    return alone


def _images(method: Method) -> int:
    """Return the mean number of training images of a site."""
    counts = [site["n_train"] for site in method.first.sites.values()]
    return round(sum(counts) / len(counts))


def _content(
    curves: dict[str, list[tuple[int, Comparison]]], sizes: dict[int, Table | None]
) -> dict[str, object]:
    rows = []
    for label, points in sorted(curves.items()):
        known = dict(points)
        rows.append([label, *(gain(known[size]) if size in known else NOTHING for size in sorted(sizes))])
    drawn = {
        label: [
            Point(size, found.difference, found.interval)
            for size, found in sorted(points, key=lambda p: p[0])
        ]
        for label, points in sorted(curves.items())
    }
    return {
        "figure": Picture("learning_curve.svg", svg(gain_curves(drawn), "learning_curve"), CAPTION),
        "gains": Table(["method", *(f"{size} images" for size in sorted(sizes))], rows),
        "sizes": {size: sizes[size] for size in sorted(sizes)},
    }
