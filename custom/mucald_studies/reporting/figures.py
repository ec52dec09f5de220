"""The studies' figures: bars with intervals, curves per round, and a scatter with the front of the best."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from adjustText import adjust_text
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

# Okabe & Ito (2008): told apart by colour-blind eyes too. The reference has black to itself.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31")
DASHES = ("-", (0, (5, 3)), (0, (1.5, 2)))
BAR, PALE, REFERENCE_BAR, REFERENCE_PALE = "#4f7ca8", "#d5e2ee", "#c8553d", "#f3d5cd"
GRID, FAINT = "#e3e7ec", "#66727f"
MOST_BANDS = 3
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "svg.fonttype": "none",
}

Interval = tuple[float, float]


def svg(figure: Figure, name: str) -> bytes:
    """Return a figure as SVG, its texts as texts, the same bytes whenever it is drawn; ``name`` names ids."""
    buffer = BytesIO()
    unknown = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata=unknown)
    return buffer.getvalue()


class BarRow(NamedTuple):
    """One method in the bar chart.

    Args:
        label: its name.
        bars: for each panel the length from 0 to 1 and the interval on it; None where there is none.
        filled: a full bar, where all that left had noise; otherwise a pale one.
        reference: whether it is the reference.
    """

    label: str
    bars: Sequence[tuple[float | None, Interval | None]]
    filled: bool
    reference: bool


@matplotlib.rc_context(_STYLE)
def bar_chart(panels: Sequence[str], rows: Sequence[BarRow]) -> Figure:
    """Return horizontal bars, a column for each of the ``panels`` and a row for each method."""
    figure = Figure((1.7 * len(panels), 0.24 * len(rows) + 0.9), layout="constrained")
    for column, axes in enumerate(_panels(figure, panels, len(panels))):
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xticks=(0, 0.5, 1))
        axes.set_yticks(range(len(rows)), [row.label for row in rows] if column == 0 else [""] * len(rows))
        axes.tick_params(left=False)
        axes.grid(axis="y", visible=False)
        for place, row in enumerate(rows):
            _draw_bar(axes, place, row, *row.bars[column])
    if len(rows) > 1:
        _explain_colours(figure, rows)
    return figure


def _explain_colours(figure: Figure, rows: Sequence[BarRow]) -> None:
    """Add a key of the colours that there are."""
    others = {row.filled for row in rows if not row.reference}
    kinds = {"leaves noised": BAR} if True in others else {}
    kinds |= {"leaves clean": PALE} if False in others else {}
    kinds |= {"reference": REFERENCE_BAR} if any(row.reference for row in rows) else {}
    handles = [Patch(facecolor=colour, edgecolor=BAR, label=text) for text, colour in kinds.items()]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(kinds), frameon=False)


def _draw_bar(axes: Axes, place: int, row: BarRow, value: float | None, interval: Interval | None) -> None:
    weight = "bold" if row.reference else "normal"
    text = "no value" if value is None else f"{value:.3f}"
    axes.text(1.04, place, text, va="center", size=8, weight=weight, transform=axes.get_yaxis_transform())
    if value is not None:
        strong, pale = (REFERENCE_BAR, REFERENCE_PALE) if row.reference else (BAR, PALE)
        axes.barh(place, value, 0.7, color=strong if row.filled else pale, edgecolor=strong)
    if interval is not None:
        axes.plot(interval, (place, place), "|-", color="black", linewidth=1.2, markersize=6)


def _panels(figure: Figure, titles: Sequence[str], columns: int) -> list[Axes]:
    grid = list(figure.subplots(-(-len(titles) // columns), columns, squeeze=False).flat)
    for axes in grid[len(titles) :]:
        axes.remove()
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title(title, loc="left", weight="bold", size=9)
    return grid[: len(titles)]


Curves = Mapping[str, Mapping[int, Sequence[float]]]
"""By site and round, from 1, the score of every seed."""


@matplotlib.rc_context(_STYLE)
def curve_panels(panels: Sequence[str], curves: Mapping[str, Curves], with_reference: bool = True) -> Figure:
    """Return one panel of curves per site, three in a row, each with a range of its own, and a legend.

    A curve is the mean over seeds; few methods have a band from the lowest to the highest seed.

    Args:
        panels: names of the sites.
        curves: by method.
        with_reference: whether the first is the reference: the others cross it, black and wide.
    """
    columns = min(3, len(panels))
    legend_columns = max(2, 3 * columns // 2)
    height = 2.5 * -(-len(panels) // columns) + 0.3 + 0.2 * -(-len(curves) // legend_columns)
    figure = Figure((4.2 * columns, height), layout="constrained")
    lines = {}
    for axes, panel in zip(_panels(figure, panels, columns), panels, strict=True):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("round", loc="right")
        for index, (method, by_site) in enumerate(curves.items()):
            if not (by_round := by_site.get(panel)):
                continue
            rounds = sorted(by_round)
            scores = [by_round[number] for number in rounds]
            style = _curve_style(index if with_reference else index + 1)
            (lines[method],) = axes.plot(rounds, [float(np.mean(each)) for each in scores], **style)
            if len(curves) <= MOST_BANDS:
                band = list(map(min, scores)), list(map(max, scores))
                axes.fill_between(rounds, *band, alpha=0.12, color=style["color"])
    figure.legend(lines.values(), lines, loc="outside lower left", ncols=legend_columns, frameon=False)
    return figure


def _curve_style(index: int) -> dict[str, Any]:
    if index == 0:
        return {"color": "#111827", "linewidth": 3.0}
    dashes, colour = divmod(index - 1, len(COLOURS))
    return {"color": COLOURS[colour], "linewidth": 1.6, "linestyle": DASHES[dashes % len(DASHES)]}


class Point(NamedTuple):
    """What a method gains at one number of images.

    Args:
        x: training images of a site.
        y: the gain.
        interval: of the gain.
    """

    x: int
    y: float
    interval: Interval


@matplotlib.rc_context(_STYLE)
def gain_curves(curves: Mapping[str, Sequence[Point]]) -> Figure:
    """Return a curve for each method, by its label, with intervals, beside a line at no gain."""
    figure = Figure((7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color="#111827", linewidth=1)
    sizes = sorted({point.x for points in curves.values() for point in points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set(xlabel="training images of each site", ylabel="gain in test Dice over training alone")
    for index, (label, points) in enumerate(curves.items(), 1):
        # Side by side, so that intervals of one size can be told apart.
        x = [point.x * 2 ** (0.04 * (index - (len(curves) + 1) / 2)) for point in points]
        low = [point.y - point.interval[0] for point in points]
        high = [point.interval[1] - point.y for point in points]
        style = {**_curve_style(index), "linewidth": 1.4, "capsize": 3, "marker": "o", "markersize": 4}
        axes.errorbar(x, [point.y for point in points], yerr=[low, high], label=label, **style)
    figure.legend(loc="outside lower left", ncols=2, frameon=False)
    return figure


class Dot(NamedTuple):
    """One point: less is better to the right, more is better upwards.

    Args:
        label: its name.
        x: its cost.
        interval: of the cost.
        y: what is got for it.
    """

    label: str
    x: float
    interval: Interval
    y: float


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the places of the points (x, y) that none at the same x or further left exceeds in y, by x.

    Of equal points the first one counts.
    """
    front: list[int] = []
    for place in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[place][1] > points[front[-1]][1]:
            front.append(place)
    return front


@matplotlib.rc_context(_STYLE)
def scatter(dots: Sequence[Dot], x_label: str, y_label: str) -> Figure:
    """Return intervals as bars, the Pareto front as a staircase, and a name beside every point."""
    figure = Figure((8.2, 5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.margins(0.08)
    front = [dots[place] for place in pareto([(dot.x, dot.y) for dot in dots])]
    axes.step(
        [dot.x for dot in front], [dot.y for dot in front], where="post", color=REFERENCE_BAR, linestyle="--"
    )
    texts = []
    for dot in dots:
        colour, weight = (REFERENCE_BAR, "bold") if dot in front else (BAR, "normal")
        errors = [[max(0.0, dot.x - dot.interval[0])], [max(0.0, dot.interval[1] - dot.x)]]
        axes.errorbar(dot.x, dot.y, xerr=errors, fmt="o", color=colour, capsize=3, linewidth=1.2)
        texts.append(axes.text(dot.x, dot.y, dot.label, size=8, weight=weight))
    figure.draw_without_rendering()
    places = [dot.x for dot in dots], [dot.y for dot in dots]
    lines = {"arrowstyle": "-", "color": FAINT}
    adjust_text(texts, *places, ax=axes, iter_lim=500, expand=(1.1, 1.9), arrowprops=lines)
    return figure
