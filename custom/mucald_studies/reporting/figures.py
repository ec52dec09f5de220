"""The report's figures: bars with intervals, and curves per round."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mucald_studies.reporting.svg import FAINT, GRID, INK, SMALL, TEXT_SIZE, Drawing, text_width

# Okabe & Ito (2008): told apart by colour-blind eyes too. The reference has black to itself.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31")
DASHES = ("", "5 3", "1.5 3")
REFERENCE_COLOUR = "#111827"
BAR, PALE, REFERENCE_BAR, REFERENCE_PALE = "#4f7ca8", "#d5e2ee", "#c8553d", "#f3d5cd"
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
MOST_BANDS = 3
LEGEND_GAP = 56

Style = tuple[str, str, float]
"""Colour, dashes and width of a line."""


@dataclass(frozen=True)
class Bar:
    """One bar: its length and the interval on it; None where there is no value."""

    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class BarRow:
    """One method in the bar chart.

    Args:
        label: its name.
        bars: one per panel.
        filled: a full bar, for noised latents; otherwise an outline.
        reference: whether it is the reference.
    """

    label: str
    bars: Sequence[Bar]
    filled: bool
    reference: bool


def bar_chart(panels: Sequence[str], rows: Sequence[BarRow], title: str) -> str:
    """Return horizontal bars from 0 to 1, one panel per column and one row per method.

    Args:
        panels: their titles.
        rows: the methods.
        title: of the whole figure.
    """
    label_width = max(text_width(row.label) for row in rows) + 14
    panel, gap, row_height, top = 112, 66, 22, 30
    height = top + row_height * len(rows) + 44
    drawing = Drawing(label_width + len(panels) * (panel + gap), height, title)
    bottom = top + row_height * len(rows)
    for column, name in enumerate(panels):
        left = label_width + column * (panel + gap)
        drawing.text(left, top - 12, name, bold=True)
        for tick in TICKS:
            x = left + tick * panel
            drawing.line(x, top, x, bottom)
            if tick in (0.0, 0.5, 1.0):
                drawing.text(x, bottom + 15, f"{tick:g}", FAINT, SMALL, "middle")
        for index, row in enumerate(rows):
            _draw_bar(drawing, row, row.bars[column], left, top + index * row_height, panel, row_height)
    for index, row in enumerate(rows):
        middle = top + (index + 0.5) * row_height + 4
        drawing.text(label_width - 10, middle, row.label, INK, TEXT_SIZE, "end", bold=row.reference)
    _draw_bar_legend(drawing, label_width, height - 10)
    return drawing.svg()


def _draw_bar(
    drawing: Drawing, row: BarRow, bar: Bar, left: float, top: float, width: float, height: float
) -> None:
    if bar.value is None:
        drawing.text(left + 4, top + height / 2 + 4, "no value", FAINT, SMALL)
        return
    strong, pale = (REFERENCE_BAR, REFERENCE_PALE) if row.reference else (BAR, PALE)
    hint = f"{row.label}: {bar.value:.3f}"
    if bar.interval is not None:
        hint += f" ({bar.interval[0]:.3f} to {bar.interval[1]:.3f})"
    fill = strong if row.filled else pale
    drawing.rectangle(left, top + 3.5, bar.value * width, height - 7, fill, strong, hint)
    drawing.text(left + width + 8, top + height / 2 + 4, f"{bar.value:.3f}", INK, SMALL, bold=row.reference)
    if bar.interval is not None:
        low, high = (left + end * width for end in bar.interval)
        middle = top + height / 2
        drawing.line(low, middle, high, middle, INK, 1.4)
        for end in (low, high):
            drawing.line(end, middle - 3.5, end, middle + 3.5, INK, 1.4)


def _draw_bar_legend(drawing: Drawing, left: float, y: float) -> None:
    for fill, stroke, text in (
        (BAR, BAR, "latents leave noised"),
        (PALE, BAR, "latents leave clean"),
        (REFERENCE_BAR, REFERENCE_BAR, "reference"),
    ):
        drawing.rectangle(left, y - 9, 16, 10, fill, stroke)
        drawing.text(left + 22, y, text, FAINT, SMALL)
        left += 44 + text_width(text, SMALL)


@dataclass(frozen=True)
class Curve:
    """Validation scores of one method at one site: per round (from 1) mean, lowest and highest over seeds."""

    rounds: Sequence[int]
    means: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


def curve_panels(
    panels: Sequence[str], curves: Mapping[str, Mapping[str, Curve]], reference: str, title: str
) -> str:
    """Return one panel of curves per site, three in a row, each with a range of its own, and a legend.

    Args:
        panels: names of the sites.
        curves: by method, then by site.
        reference: the method drawn in black.
        title: of the whole figure.
    """
    columns = min(3, len(panels))
    width, height, gap, top, margin = 300, 165, 60, 34, 40
    styles = _styles(list(curves), reference)
    n_rows = -(-len(panels) // columns)
    total = margin + columns * (width + gap)
    legend = _legend_rows(list(curves), total - margin)
    drawing = Drawing(total, n_rows * (height + top + 34) + 10 + 20 * len(legend), title)
    for index, panel in enumerate(panels):
        shown = {method: by_site[panel] for method, by_site in curves.items() if panel in by_site}
        left, upper = (
            margin + (index % columns) * (width + gap),
            top + (index // columns) * (height + top + 34),
        )
        axes = _Axes.around(shown.values(), (left, upper, width, height))
        axes.draw(drawing, panel)
        # The reference first: the others cross it, and it is the widest.
        for method in sorted(shown, key=lambda name: name != reference):
            _draw_curve(drawing, method, shown[method], axes, styles[method], len(curves) <= MOST_BANDS)
    for row, methods in enumerate(legend):
        _draw_legend_row(drawing, methods, styles, margin, drawing.height - 20 * (len(legend) - row) + 8)
    return drawing.svg()


@dataclass(frozen=True)
class _Axes:
    """Where rounds and scores lie within a panel.

    Args:
        box: left, top, width and height in the drawing.
        last: the last round.
        ticks: scores with a line, from the lowest to the highest shown.
    """

    box: tuple[float, float, float, float]
    last: int
    ticks: Sequence[float]

    @classmethod
    def around(cls, curves: Iterable[Curve], box: tuple[float, float, float, float]) -> "_Axes":
        curves = list(curves)
        low = min(min(curve.means) for curve in curves)
        high = max(max(curve.means) for curve in curves)
        last = max(max(curve.rounds) for curve in curves)
        step = next((step for step in STEPS if high - low <= 4 * step), STEPS[-1])
        first, end = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
        return cls(box, last, [round(number * step, 6) for number in range(first, end + 1)])

    def x(self, number: int) -> float:
        return self.box[0] + self.box[2] * (number - 0.5) / self.last

    def y(self, score: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        share = min(max((score - low) / (high - low), 0), 1)
        return self.box[1] + self.box[3] * (1 - share)

    def draw(self, drawing: Drawing, panel: str) -> None:
        left, top, width, height = self.box
        drawing.text(left, top - 10, panel, bold=True)
        for tick in self.ticks:
            drawing.line(left, self.y(tick), left + width, self.y(tick), GRID)
            drawing.text(left - 6, self.y(tick) + 4, f"{tick:g}", FAINT, SMALL, "end")
        for number in range(1, self.last + 1, max(1, -(-self.last // 8))):
            drawing.text(self.x(number), top + height + 15, str(number), FAINT, SMALL, "middle")
        drawing.text(left + width, top + height + 28, "round", FAINT, SMALL, "end")


def _styles(methods: Sequence[str], reference: str) -> dict[str, Style]:
    styles: dict[str, Style] = {reference: (REFERENCE_COLOUR, "", 3.0)}
    others = [method for method in methods if method != reference]
    for index, method in enumerate(others):
        dashes = DASHES[index // len(COLOURS) % len(DASHES)]
        styles[method] = (COLOURS[index % len(COLOURS)], dashes, 1.6)
    return styles


def _legend_rows(methods: Sequence[str], width: float) -> list[list[str]]:
    rows: list[list[str]] = [[]]
    used = 0.0
    for method in methods:
        need = LEGEND_GAP + text_width(method)
        if rows[-1] and used + need > width:
            rows.append([])
            used = 0.0
        rows[-1].append(method)
        used += need
    return rows


def _draw_legend_row(
    drawing: Drawing, methods: Sequence[str], styles: Mapping[str, Style], left: float, y: float
) -> None:
    for method in methods:
        colour, dashes, width = styles[method]
        drawing.path([(left, y - 4), (left + 24, y - 4)], colour, width, dashes)
        drawing.text(left + 30, y, method)
        left += LEGEND_GAP + text_width(method)


def _draw_curve(drawing: Drawing, method: str, curve: Curve, axes: _Axes, style: Style, band: bool) -> None:
    def points(values: Sequence[float]) -> list[tuple[float, float]]:
        return [(axes.x(n), axes.y(value)) for n, value in zip(curve.rounds, values, strict=True)]

    colour, dashes, width = style
    if band:
        drawing.area(points(curve.lows) + points(curve.highs)[::-1], colour, 0.12)
    hint = f"{method}: {curve.means[-1]:.3f} at the end"
    drawing.path(points(curve.means), colour, width, dashes, hint)
