"""Pages: a Markdown template filled in, as text with pictures beside it and as one HTML file."""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import jinja2
from markdown import markdown

from mucald.state.files import write_atomically

_FIGURE = re.compile(r'<img [^>]*src="figures/([^"]+)"[^>]*>')
# Whoever has no mouse scrolls what has the focus.
_TABLE_BOX = '<div class="table" tabindex="0"><table>'
_MARKED_UP = re.compile(r"([\\`*_\[\]|])")

Show = Callable[[str], str]
"""Makes Markdown of a text, which then shows it."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table; ``small`` stands below its text."""

    text: str
    bold: bool = False
    small: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        columns: headers.
        rows: cells, or their texts; the first of a row names it.
        words: how many of the first columns hold words, which are set to the left and may break.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    words: int = 1


@dataclass(frozen=True)
class Picture:
    """A drawing (SVG) or picture (PNG) with its caption; ``name`` is its file's in the folder ``figures``."""

    name: str
    data: bytes
    caption: str


@dataclass
class Page:
    """A page.

    Args:
        template: name of the Markdown template.
        content: what it shows, by name; tables, pictures and lists of pictures among it are set as such.
    """

    template: str
    content: dict[str, Any]
    pictures: dict[str, Picture] = field(default_factory=dict, init=False)

    def markdown(self) -> str:
        """Return the page as Markdown, which names the pictures' files."""
        return self._rendered(str, _in_cell, lambda text: f"`{text}`")

    def html(self) -> str:
        """Return the page as one HTML file that loads nothing."""
        text = self._rendered(_inert, _inert, lambda text: f"<code>{_inert(text)}</code>")
        body = markdown(text, extensions=["tables", "md_in_html"])
        body = body.replace("<table>", _TABLE_BOX).replace("</table>", "</table></div>")
        body = _FIGURE.sub(lambda name: _figure(self.pictures[name[1]]), body)
        # A mark stays on the line of what it marks.
        body = body.replace(" †", "&nbsp;†")
        (title, *_) = re.findall("<h1>(.*)</h1>", body)
        return _environment().get_template("page.html").render(title=title, body=body)

    def write(self, folder: Path, text: str, page: str = "") -> list[Path]:
        """Write the Markdown as the file ``text``, its pictures beside it, and the HTML as ``page`` if named.

        Returns:
            the paths of all files.
        """
        files = {text: self.markdown().encode()}
        files |= {f"figures/{name}": picture.data for name, picture in self.pictures.items()}
        if page:
            files[page] = self.html().encode()
        for name, data in files.items():
            write_atomically(folder / name, data)
        return [folder / name for name in files]

    def _rendered(self, shown: Show, in_cell: Show, code: Show) -> str:
        """Fill the template in, given what makes Markdown of a text, of one in a table's cell, of a name."""

        def finalised(value: Any) -> str:
            match value:
                case _Markdown():
                    return value
                case Table():
                    return f"\n{_table(value, in_cell)}\n"
                case Picture():
                    return finalised([value])
                case list():
                    self.pictures |= {picture.name: picture for picture in value}
                    named = (f"![{shown(picture.caption)}](figures/{picture.name})" for picture in value)
                    return "\n" + "\n".join(named) + "\n"
            return shown(str(value))

        environment = _environment(finalize=finalised)
        environment.filters["code"] = lambda text: _Markdown(code(str(text)))
        text = environment.get_template(self.template).render(self.content)
        return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?m)^(#+ .*)$", r"\n\1\n", text)).strip() + "\n"


class _Markdown(str):
    """A text that is Markdown already."""


def _environment(**options: Any) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("mucald_studies.reporting"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )


def _in_cell(text: str) -> str:
    return text.replace("|", r"\|")


def _inert(text: str) -> str:
    """Return a text so that neither Markdown nor HTML takes any of it for its own."""
    return _MARKED_UP.sub(r"\\\1", escape(text))


def _table(table: Table, shown: Show) -> str:
    rule = [":---" if number < table.words else "---:" for number in range(len(table.columns))]
    head = [[shown(column) for column in table.columns], rule]
    lines = [*head, *([_cell(cell, shown) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell | str, shown: Show) -> str:
    text = shown(str(cell))
    if isinstance(cell, str):
        return text
    small = f"<br>{shown(cell.small)}" if cell.small else ""
    return (f"**{text}**" if cell.bold and text else text) + small


def _figure(picture: Picture) -> str:
    kind = "svg+xml" if picture.name.endswith(".svg") else "png"
    address = f"data:image/{kind};base64,{base64.b64encode(picture.data).decode()}"
    caption = escape(picture.caption)
    return f'<span class="figure"><img alt="{caption}" src="{address}"><br>{caption}</span>'
