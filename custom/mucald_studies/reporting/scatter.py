"""A scatter of labelled points with intervals and the front of those that no other betters."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mucald_studies.reporting.figures import BAR, REFERENCE_BAR
from mucald_studies.reporting.svg import FAINT, INK, SMALL, Drawing, text_width

WIDTH, HEIGHT = 780, 470
LEFT, TOP, RIGHT, BOTTOM = 62, 22, 24, 56
RADIUS = 4.5
MOST_TICKS = 8
# Bold letters are wider.
BOLD = 1.1
DISTANCES = (RADIUS + 3, 20.0, 34.0, 50.0, 68.0)
_STEPS = (1, 2, 5, 10)

Place = tuple[float, float]
"""Pixels from the left and from the top."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in the drawing."""


@dataclass(frozen=True)
class Dot:
    """One point: less is better to the right, more is better upwards.

    Args:
        label: its name.
        x: its cost.
        interval: of the cost.
        y: what is got for it.
        front: whether no other is better in both.
    """

    label: str
    x: float
    interval: tuple[float, float]
    y: float
    front: bool


@dataclass(frozen=True)
class _Scale:
    """Where numbers lie between two edges of the drawing."""

    ticks: Sequence[float]
    start: float
    end: float

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float) -> "_Scale":
        values = list(values)
        low, high = min(values), max(values)
        step = _step((high - low) or abs(high) or 1.0)
        first, last = math.floor(low / step), math.ceil(high / step)
        ticks = [round(number * step, 9) for number in range(first, max(last, first + 1) + 1)]
        return cls(ticks, start, end)

    def at(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def _step(span: float) -> float:
    """Return the smallest of 1, 2, 5, 10 times a power of ten that divides ``span`` into few parts."""
    power = 10 ** math.floor(math.log10(span / MOST_TICKS))
    return next(power * step for step in _STEPS if span / (power * step) <= MOST_TICKS)


def scatter(dots: Sequence[Dot], x_label: str, y_label: str, title: str) -> str:
    """Return the drawing: intervals as bars, the front as a staircase, a name beside every point."""
    drawing = Drawing(WIDTH, HEIGHT, title)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    x = _Scale.over([value for dot in dots for value in (dot.x, *dot.interval)], LEFT, right)
    y = _Scale.over([dot.y for dot in dots], bottom, TOP)
    for tick in x.ticks:
        drawing.line(x.at(tick), TOP, x.at(tick), bottom)
        drawing.text(x.at(tick), bottom + 16, f"{tick:g}", FAINT, SMALL, "middle")
    for tick in y.ticks:
        drawing.line(LEFT, y.at(tick), right, y.at(tick))
        drawing.text(LEFT - 7, y.at(tick) + 4, f"{tick:g}", FAINT, SMALL, "end")
    drawing.text((LEFT + right) / 2, bottom + 38, x_label, INK, anchor="middle")
    drawing.text(6, TOP - 8, y_label, INK)
    places = [(x.at(dot.x), y.at(dot.y)) for dot in dots]
    bars = [(x.at(dot.interval[0]), x.at(dot.interval[1])) for dot in dots]
    steps = _stairs(sorted(place for dot, place in zip(dots, places, strict=True) if dot.front))
    if len(steps) > 1:
        drawing.path(steps, REFERENCE_BAR, 1.5, "5 3", "no other point is better in both")
    for dot, place, bar in zip(dots, places, bars, strict=True):
        _draw_dot(drawing, dot, place, bar)
    taken = [_around_line(one, other) for one, other in pairwise(steps)]
    for (left, end), (_, level) in zip(bars, places, strict=True):
        taken.append(_around_line((left, level), (end, level)))
    taken += [(px - RADIUS, py - RADIUS, px + RADIUS, py + RADIUS) for px, py in places]
    _draw_labels(drawing, dots, places, taken)
    return drawing.svg()


def _stairs(front: Sequence[Place]) -> list[Place]:
    """Return the corners of the staircase through the front, from left to right."""
    steps = list(front[:1])
    for (_, before), (x, y) in pairwise(front):
        steps += [(x, before), (x, y)]
    return steps


def _around_line(one: Place, other: Place) -> Box:
    (x1, x2), (y1, y2) = sorted((one[0], other[0])), sorted((one[1], other[1]))
    return x1 - 2, y1 - 2, x2 + 2, y2 + 2


def _draw_dot(drawing: Drawing, dot: Dot, place: Place, bar: tuple[float, float]) -> None:
    x, y = place
    colour = REFERENCE_BAR if dot.front else BAR
    drawing.line(bar[0], y, bar[1], y, colour, 1.2)
    for end in bar:
        drawing.line(end, y - 3, end, y + 3, colour, 1.2)
    low, high = dot.interval
    drawing.circle(x, y, RADIUS, colour, f"{dot.label}: {dot.x:.2f} ({low:.2f} to {high:.2f}), {dot.y:.3f}")


def _draw_labels(drawing: Drawing, dots: Sequence[Dot], places: Sequence[Place], taken: list[Box]) -> None:
    """Write every name where it covers least of what is there already, with a line to its point if far."""
    for dot, (x, y) in zip(dots, places, strict=True):
        width = text_width(dot.label, SMALL) * (BOLD if dot.front else 1)
        box = min(_candidates((x, y), width), key=lambda candidate: _cost(candidate, taken))
        taken.append(box)
        near = min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3])
        if math.dist((x, y), near) > 2 * DISTANCES[0]:
            drawing.line(x, y, *near, FAINT, 0.7)
        drawing.text(box[0], box[3] - 3, dot.label, INK, SMALL, bold=dot.front)


def _candidates(place: Place, width: float) -> Iterator[Box]:
    """Yield boxes for a label: beside a point, above and below it, then farther away."""
    x, y = place
    height = SMALL + 3
    for distance in DISTANCES:
        across, along = distance + width / 2, distance + height / 2
        for dx, dy in (
            (0, -along),
            (0, along),
            (across, 0),
            (-across, 0),
            (across, -along),
            (across, along),
            (-across, -along),
            (-across, along),
        ):
            left, top = x + dx - width / 2, y + dy - height / 2
            yield left, top, left + width, top + height


def _cost(box: Box, taken: Sequence[Box]) -> float:
    """Return the area that ``box`` covers of others, and much more for what sticks out of the drawing."""
    covered = sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in taken
    )
    sideways = max(0.0, LEFT - box[0]) + max(0.0, box[2] - WIDTH)
    return covered + 100 * (sideways + max(0.0, TOP - box[1]) + max(0.0, box[3] - (HEIGHT - BOTTOM)))
