import base64
import re
from html.parser import HTMLParser

import pytest

from mucald_studies.reporting import page as pages
from mucald_studies.reporting.page import Cell, Page, Picture, Table

VOID = {"meta", "img", "br"}
NASTY = "<script>alert('x')</script> & \"quotes\" ![x](http://evil/x.png) **x** `x` a|b # x"
TEMPLATE = """# Title
{{ nasty }} and {{ nasty | code }}
> **Note:** {{ nasty }}

- {{ nasty }}
{{ table }}
{{ drawing }}
{{ pictures }}
"""


class Html(HTMLParser):
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
def page(monkeypatch):
    loader = pages.jinja2.DictLoader(
        {"test.md": TEMPLATE, "page.html": pages._environment().loader.get_source(None, "page.html")[0]}
    )
    monkeypatch.setattr(pages.jinja2, "PackageLoader", lambda _: loader)
    return Page(
        "test.md",
        {
            "nasty": NASTY,
            "table": Table(["method", "a|b"], [["x", Cell("1.0", bold=True, small="[0, 2]")], [NASTY, "2"]]),
            "drawing": Picture("drawing.svg", b"<svg/>", NASTY),
            "pictures": [Picture(f"{name}.png", name.encode(), name) for name in ("one", "two")],
        },
    )


def test_html_loads_nothing_and_runs_nothing(page):
    html = page.html()
    found = Html(html)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "a"} & set(found.tags)
    assert [re.match("data:image/[a-z+]+;base64,", link)[0] for link in found.links] == [
        "data:image/svg+xml;base64,",
        *["data:image/png;base64,"] * 2,
    ]
    assert [base64.b64decode(link.partition(",")[2]) for link in found.links] == [b"<svg/>", b"one", b"two"]
    assert "default-src 'none'" in html
    assert "@import" not in html
    assert "url(" not in html


def test_html_shows_texts_as_they_are(page):
    found = Html(page.html())
    # In a paragraph, as code, in a warning, a list, a table, and below a picture.
    assert "".join(found.text).count(NASTY) == 6
    assert found.tags.count("strong") == 2, "of the warning and of the bold cell"
    assert found.tags.count("code") == 1
    assert found.tags.count("blockquote") == found.tags.count("ul") == found.tags.count("table") == 1
    assert "Title" in found.text


def test_a_table_scrolls_in_its_own_box_by_keys_too(page):
    assert re.search(r'<div class="table" tabindex="0"><table>.*</table></div>', page.html(), flags=re.DOTALL)


def test_markdown_has_tables_and_names_its_files(page, tmp_path):
    text = page.markdown()
    assert text.startswith("# Title\n\n")
    assert f"\n- {NASTY}\n" in text
    assert "\n\n| method | a\\|b |\n| :--- | ---: |\n| x | **1.0**<br>[0, 2] |\n" in text
    paths = page.write(tmp_path, "page.md", "page.html")
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
    assert names == ["page.md", "figures/drawing.svg", "figures/one.png", "figures/two.png", "page.html"]
    assert all(f"]({name})" in text for name in names if name.startswith("figures/"))
    assert (tmp_path / "figures/one.png").read_bytes() == b"one"


def test_what_a_template_asks_for_has_to_be_there(page):
    del page.content["table"]
    with pytest.raises(pages.jinja2.UndefinedError, match="'table' is undefined"):
        page.markdown()
