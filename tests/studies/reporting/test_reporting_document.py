import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from mucald_studies.reporting.document import (
    Bullets,
    Cell,
    Document,
    Figure,
    Heading,
    Paragraph,
    Picture,
    Pictures,
    Table,
)
from mucald_studies.reporting.figures import Bar, BarRow, Curve, bar_chart, curve_panels
from mucald_studies.reporting.svg import Drawing

VOID = {"meta", "img", "br"}
NASTY = "<script>alert('x')</script> & \"quotes\""


class Page(HTMLParser):
    """Collects tags and what they point at, and checks that every element is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "data", "action", "poster")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):  # noqa: ARG002
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def document():
    drawing = Drawing(10, 10, NASTY)
    drawing.text(1, 1, NASTY)
    made = Document()
    made.add(
        Heading("Title", 1),
        Paragraph(f"{NASTY} and `code`", "warning"),
        Bullets(["one", "two"]),
        Table(
            ["method", "a|b"], [["x", Cell("1.0", bold=True, small="[0, 2]")], [NASTY, "2"]], reference="x"
        ),
        Figure("drawing", drawing.svg(), "a drawing"),
        Pictures([Picture("dots", b"\x89PNG", "dots: Dice 0.5")]),
    )
    return made


def test_html_loads_nothing_and_runs_nothing(document):
    html = document.html()
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "default-src 'none'" in html
    assert "@import" not in html
    assert "url(" not in html
    # The only address is the name of SVG's vocabulary, which nothing loads.
    assert set(re.findall(r"https?://[^\"' ]+", html)) == {"http://www.w3.org/2000/svg"}


def test_html_shows_texts_as_they_are(document):
    page = Page(document.html())
    assert any(NASTY in text for text in page.text)
    assert page.tags.count("strong") == 1
    assert page.tags.count("code") == 1
    assert page.tags.count("svg") == 1


def test_markdown_has_tables_and_names_its_files(document):
    text = document.markdown()
    assert "# Title" in text
    assert "| method | a\\|b |\n| --- | ---: |\n| x | **1.0**<br>[0, 2] |" in text
    assert "> **Note:**" in text
    assert "- one\n- two" in text
    files = document.files()
    assert set(files) == {"figures/drawing.svg", "figures/dots.png"}
    assert all(f"]({name})" in text for name in files)
    assert files["figures/dots.png"] == b"\x89PNG"


def elements(svg: str, name: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{name}"))


def test_bars_are_as_long_as_their_values():
    rows = [
        BarRow("full", [Bar(0.8, (0.7, 0.9)), Bar(0.4, None)], filled=True, reference=True),
        BarRow("<other>", [Bar(0.2, (0.1, 0.3)), Bar(None, None)], filled=False, reference=False),
    ]
    svg = bar_chart(["mean", "site"], rows, "Dice")
    bars = [r for r in elements(svg, "rect") if list(r)]
    widths = [float(bar.get("width")) for bar in bars]
    assert len(widths) == 3
    assert widths[0] == pytest.approx(2 * widths[2], abs=0.2)
    assert widths[0] == pytest.approx(4 * widths[1], abs=0.2)
    assert bars[0][0].text == "full: 0.800 (0.700 to 0.900)"
    whisker = next(e for e in elements(svg, "line") if e.get("stroke-width") == "1.4")
    start, scale = float(bars[0].get("x")), widths[0] / 0.8
    assert float(whisker.get("x1")) == pytest.approx(start + 0.7 * scale, abs=0.2)
    assert float(whisker.get("x2")) == pytest.approx(start + 0.9 * scale, abs=0.2)
    texts = [text.text for text in elements(svg, "text")]
    assert "<other>" in texts
    assert "no value" in texts
    assert bars[0].get("fill") != bars[1].get("fill")


def test_curves_rise_with_their_values_and_stay_within_the_panel():
    curve = Curve([1, 2, 3], [0.2, 0.5, 0.4], [0.1, 0.4, 0.4], [0.3, 0.6, 0.4])
    svg = curve_panels(
        ["a", "b"], {"mucald": {"a": curve, "b": curve}, "other": {"a": curve}}, "mucald", "Dice"
    )
    lines = [e for e in elements(svg, "polyline") if list(e)]
    assert len(lines) == 3
    points = [tuple(map(float, point.split(","))) for point in lines[0].get("points").split()]
    (x1, y1), (x2, y2), (x3, y3) = points
    assert x1 < x2 < x3
    assert y2 < y3 < y1
    # Heights are to scale: .3 up, then .1 down.
    assert (y1 - y2) == pytest.approx(3 * (y3 - y2), abs=0.5)
    size = ElementTree.fromstring(svg)
    assert all(0 <= x <= float(size.get("width")) and 0 <= y <= float(size.get("height")) for x, y in points)
    assert len(elements(svg, "polygon")) == 3


def test_twenty_methods_have_twenty_styles():
    curve = Curve([1, 2], [0.2, 0.5], [0.2, 0.5], [0.2, 0.5])
    names = [f"method {i}" for i in range(20)]
    svg = curve_panels(["a"], {name: {"a": curve} for name in names}, "method 3", "Dice")
    lines = [e for e in elements(svg, "polyline") if list(e)]
    assert len({(e.get("stroke"), e.get("stroke-dasharray"), e.get("stroke-width")) for e in lines}) == 20
    assert elements(svg, "polygon") == []


def test_a_flat_curve_has_axes_too():
    curve = Curve([1], [0.5], [0.5], [0.5])
    assert "nan" not in curve_panels(["a"], {"m": {"a": curve}}, "m", "Dice")
