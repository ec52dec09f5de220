"""A report as a list of blocks, and its two forms: Markdown with files beside it, and one HTML file."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TypeAlias

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, 'Segoe UI', 'Liberation Sans', sans-serif; color: #1f2933; margin: 0 auto;
  padding: 28px 32px 60px; max-width: 1220px; background: #fff; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 38px 0 8px; padding-top: 14px;
  border-top: 1px solid #e3e7ec; } h3 { font-size: 15px; margin: 22px 0 4px; }
p, li { max-width: 860px; } p { margin: 8px 0; } ul { margin: 8px 0; padding-left: 22px; }
.warning { background: #fff6e5; border-left: 4px solid #e69f00; padding: 8px 14px; }
.scroll { overflow-x: auto; margin: 10px 0; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; border-bottom: 1px solid #e3e7ec; text-align: right; white-space: nowrap; }
th { font-weight: 600; color: #4b5763; border-bottom: 1.5px solid #9aa5b1; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 2px; }
td.text { text-align: left; white-space: normal; max-width: 420px; }
tr.reference td { background: #fbf1ee; } tr:hover td { background: #f4f6f8; }
td strong { color: #0b6b3a; } td small { color: #66727f; }
figure { margin: 14px 0; } figure svg { max-width: 100%; height: auto; }
figcaption, .note { color: #66727f; font-size: 13px; max-width: 860px; }
.pictures { display: flex; flex-wrap: wrap; gap: 18px; } .pictures figure { margin: 6px 0; }
.pictures img { image-rendering: pixelated; height: 112px; display: block; border-radius: 3px; }
code { font-size: .92em; background: #f2f4f7; padding: 0 4px; border-radius: 3px; }
"""


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `` `code` `` within it is set as such. ``kind``: plain, ``note`` or ``warning``."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of short texts."""

    items: Sequence[str]


@dataclass(frozen=True)
class Cell:
    """A cell of a table; ``small`` stands below its text, ``long`` text is set to the left and may break."""

    text: str
    bold: bool = False
    small: str = ""
    long: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        columns: headers.
        rows: cells, or their texts; the first of a row names it.
        reference: first cell of the row to lift out.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    reference: str = ""


@dataclass(frozen=True)
class Figure:
    """A drawing; ``name`` is its file's beside the Markdown."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption."""

    name: str
    png: bytes
    caption: str


@dataclass(frozen=True)
class Pictures:
    """Pictures in a row."""

    pictures: Sequence[Picture]


Block: TypeAlias = Heading | Paragraph | Bullets | Table | Figure | Pictures


@dataclass
class Document:
    """A report under construction."""

    blocks: list[Block] = field(default_factory=list)

    def add(self, *blocks: Block) -> None:
        """Append blocks."""
        self.blocks.extend(blocks)

    def files(self) -> dict[str, bytes]:
        """Return what the Markdown refers to, by path relative to it."""
        found: dict[str, bytes] = {}
        for block in self.blocks:
            if isinstance(block, Figure):
                found[_file(block)] = block.svg.encode()
            elif isinstance(block, Pictures):
                found |= {_file(picture): picture.png for picture in block.pictures}
        return found

    def markdown(self) -> str:
        """Return the report as Markdown."""
        return "\n\n".join(_markdown(block) for block in self.blocks) + "\n"

    def html(self) -> str:
        """Return the report as one HTML page that loads nothing."""
        title = next((block.text for block in self.blocks if isinstance(block, Heading)), "Report")
        body = "\n".join(_html(block) for block in self.blocks)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
        )


def _file(block: Figure | Picture) -> str:
    return f"figures/{block.name}.{'svg' if isinstance(block, Figure) else 'png'}"


def _cell(cell: Cell | str) -> Cell:
    return cell if isinstance(cell, Cell) else Cell(cell)


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Paragraph(text, kind):
            return f"> **Note:** {text}" if kind == "warning" else text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Table(columns, rows):
            lines = [list(columns), ["---"] + ["---:"] * (len(columns) - 1)]
            for row in rows:
                cells = [_cell(cell) for cell in row]
                lines.append([_markdown_cell(cell) for cell in cells])
            return "\n".join(_markdown_row(line) for line in lines)
        case Figure(_, _, caption):
            return f"![{caption}]({_file(block)})"
        case Pictures(pictures):
            return "\n".join(f"![{picture.caption}]({_file(picture)})" for picture in pictures)


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.bold else cell.text
    return f"{text}<br>{cell.small}" if cell.small else text


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Paragraph(text, kind):
            return f'<p class="{kind}">{_inline(text)}</p>' if kind else f"<p>{_inline(text)}</p>"
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</ul>"
        case Table():
            return _html_table(block)
        case Figure(_, svg, caption):
            return f"<figure>{svg}<figcaption>{_inline(caption)}</figcaption></figure>"
        case Pictures(pictures):
            return f'<div class="pictures">{"".join(_html_picture(picture) for picture in pictures)}</div>'


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{_inline(column)}</th>" for column in table.columns)
    body = []
    for row in table.rows:
        cells = [_cell(cell) for cell in row]
        mark = ' class="reference"' if cells[0].text == table.reference else ""
        body.append(f"<tr{mark}>{''.join(_html_cell(cell) for cell in cells)}</tr>")
    rows = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<div class="scroll"><table>{rows}</table></div>'


def _html_cell(cell: Cell) -> str:
    text = _inline(cell.text)
    kind = ' class="text"' if cell.long else ""
    small = f"<br><small>{_inline(cell.small)}</small>" if cell.small else ""
    return f"<td{kind}>{f'<strong>{text}</strong>' if cell.bold else text}{small}</td>"


def _html_picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    caption = _inline(picture.caption)
    image = f'<img src="data:image/png;base64,{data}" alt="{caption}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
