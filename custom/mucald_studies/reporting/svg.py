"""As much of SVG as the report's figures need: shapes, text, and a drawing that scales."""

from dataclasses import dataclass, field
from html import escape

FONT = "system-ui, 'Segoe UI', 'Liberation Sans', 'DejaVu Sans', sans-serif"
INK, FAINT, GRID = "#1f2933", "#66727f", "#e3e7ec"
TEXT_SIZE, SMALL = 12, 10.5
# Mean width of a letter at the text's size, to leave room for labels without measuring fonts.
LETTER = 0.56


def text_width(text: str, size: float = TEXT_SIZE) -> float:
    """Return about how wide ``text`` is drawn, in pixels."""
    return LETTER * size * len(text)


@dataclass
class Drawing:
    """An SVG under construction; lengths in pixels, origin at the top left.

    Args:
        width, height: size of the drawing.
        title: what it shows, for those who cannot see it.
    """

    width: float
    height: float
    title: str
    _parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = GRID, width: float = 1) -> None:
        """Draw a straight line."""
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{colour}" stroke-width="{width}"/>'
        )

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: str, stroke: str = "none", hint: str = ""
    ) -> None:
        """Draw a rectangle; ``hint`` appears under the pointer."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" '
            f'fill="{fill}" stroke="{stroke}">{_hint(hint)}</rect>'
        )

    def circle(self, x: float, y: float, radius: float, fill: str, hint: str = "") -> None:
        """Draw a disc; ``hint`` appears under the pointer."""
        self._parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}">{_hint(hint)}</circle>'
        )

    def path(
        self, points: list[tuple[float, float]], colour: str, width: float, dashes: str = "", hint: str = ""
    ) -> None:
        """Draw straight lines from point to point."""
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        self._parts.append(
            f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="{width}" '
            f'stroke-linejoin="round" stroke-linecap="round"{dash}>{_hint(hint)}</polyline>'
        )

    def area(self, points: list[tuple[float, float]], colour: str, opacity: float) -> None:
        """Fill a polygon."""
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polygon points="{at}" fill="{colour}" fill-opacity="{opacity}"/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        colour: str = INK,
        size: float = TEXT_SIZE,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """Write ``text`` with its base line at ``y``; ``anchor`` is ``start``, ``middle`` or ``end``."""
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
            f'text-anchor="{anchor}"{weight}>{escape(text)}</text>'
        )

    def svg(self) -> str:
        """Return the drawing as an SVG element, which also stands alone as a file."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:.0f} {self.height:.0f}" '
            f'width="{self.width:.0f}" height="{self.height:.0f}" role="img" font-family="{FONT}">'
            f"<title>{escape(self.title)}</title>{''.join(self._parts)}</svg>"
        )


def _hint(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""
