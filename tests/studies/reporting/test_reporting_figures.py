import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from mucald_studies.reporting.figures import (
    BAR,
    BarRow,
    Dot,
    bar_chart,
    curve_panels,
    scatter,
    svg,
)

CURVE = {2: [0.4, 0.6], 1: [0.1, 0.3], 3: [0.4, 0.4]}


def texts(drawing: bytes) -> list[str]:
    found = ElementTree.fromstring(drawing).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in found]


def test_bars_are_as_long_as_their_values():
    rows = [
        BarRow("full", [(0.8, (0.7, 0.9)), (0.4, None)], filled=True, reference=True),
        BarRow("<other>", [(0.2, (0.1, 0.3)), (None, None)], filled=False, reference=False),
    ]
    figure = bar_chart(["mean", "site"], rows)
    mean, site = figure.axes
    assert [bar.get_width() for bar in mean.patches] == [0.8, 0.2]
    assert [bar.get_width() for bar in site.patches] == [0.4]
    assert [list(line.get_xdata()) for line in mean.lines] == [[0.7, 0.9], [0.1, 0.3]]
    assert mean.patches[0].get_y() < mean.patches[1].get_y()
    assert mean.yaxis_inverted(), "the first method stands on top"
    assert len({bar.get_facecolor() for bar in (*mean.patches, *site.patches)}) == 2
    shown = texts(svg(figure, "dice"))
    assert {"full", "<other>", "mean", "site", "0.800", "0.200", "no value", "reference"} <= set(shown)


def test_the_key_names_only_what_is_there():
    def key(*filled):
        rows = [BarRow(str(i), [(0.5, None)], filled=each, reference=not i) for i, each in enumerate(filled)]
        shown = texts(svg(bar_chart(["mean"], rows), "dice"))
        return [text for text in shown if text in ("leaves noised", "leaves clean", "reference")]

    assert key(True) == []
    assert key(True, False) == ["leaves clean", "reference"]
    assert key(True, False, True) == ["leaves noised", "leaves clean", "reference"]


def test_curves_show_their_values_and_up_to_three_methods_have_bands():
    figure = curve_panels(["a", "b"], {"mucald": {"a": CURVE, "b": CURVE}, "other": {"a": CURVE}})
    first, second = figure.axes
    assert [list(line.get_ydata()) for line in first.lines] == [pytest.approx([0.2, 0.5, 0.4])] * 2
    assert list(first.lines[0].get_xdata()) == [1, 2, 3]
    assert len(second.lines) == 1
    (low, high) = first.collections[0].get_datalim(first.transData).intervaly
    assert (low, high) == (0.1, 0.6)
    assert len(first.collections) == 2
    assert {"a", "b", "mucald", "other", "round"} <= set(texts(svg(figure, "validation")))


def test_twenty_methods_have_twenty_styles_and_no_bands():
    names = [f"method {i}" for i in range(20)]
    (axes,) = curve_panels(["a"], {name: {"a": CURVE} for name in names}).axes
    styles = {(line.get_color(), line.get_linestyle(), line._unscaled_dash_pattern) for line in axes.lines}
    assert len(styles) == len(axes.lines) == 20
    assert not axes.collections


def test_a_flat_curve_of_one_round_has_axes_too():
    figure = curve_panels(["a"], {"m": {"a": {1: [0.5]}}})
    assert "nan" not in svg(figure, "validation").decode()


def test_a_scatter_has_every_point_in_its_place_with_its_name_and_the_front_as_stairs():
    dots = [
        Dot("low", 1.0, (0.8, 1.2), 0.8),
        Dot("high & far", 3.0, (2.5, 3.5), 0.9),
        Dot("lost", 3.0, (2.0, 4.0), 0.8),
    ]
    figure = scatter(dots, "cost", "gain")
    (axes,) = figure.axes
    stairs, *places = [line for line in axes.lines if line.get_marker() in ("o", "None")]
    assert stairs.get_drawstyle() == "steps-post"
    assert np.transpose(stairs.get_data()).tolist() == [[1.0, 0.8], [3.0, 0.9]]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in places] == [(1, 0.8), (3, 0.9), (3, 0.8)]
    bars = [segment[:, 0].tolist() for bar in axes.collections for segment in bar.get_segments()]
    assert bars == [pytest.approx(dot.interval) for dot in dots]
    assert {"low", "high & far", "lost", "cost", "gain"} <= set(texts(svg(figure, "frontier")))
    assert places[2].get_color() == BAR != places[0].get_color()


def test_names_do_not_cover_each_other():
    dots = [Dot(f"point {i}", 1.0 + i / 50, (0.9, 1.2), 0.8) for i in range(5)]
    figure = scatter(dots, "cost", "gain")
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert len(boxes) == 5
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_a_single_point_can_be_drawn():
    (axes,) = scatter([Dot("only", 0.0, (0.0, 0.0), 0.0)], "x", "y").axes
    assert [text.get_text() for text in axes.texts] == ["only"]


def test_a_drawing_is_the_same_whenever_it_is_made_and_names_no_program():
    figures = [curve_panels(["a"], {"m": {"a": CURVE}}) for _ in range(2)]
    first, second = (svg(figure, "validation") for figure in figures)
    assert first == second
    assert b"metadata" not in first
    assert ElementTree.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"
