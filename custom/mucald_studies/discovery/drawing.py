"""The learnt and the built-in graph as one SVG picture."""

import math
from html import escape

from mucald_studies.discovery.findings import Findings
from mucald_studies.discovery.graphs import Edge, reverse

WIDTH, HEIGHT, MARGIN = 640, 460, 110
BOX_WIDTH, BOX_HEIGHT = 150, 34
THINNEST, THICKEST = 1.5, 5.0
# Where along an edge its label stands; not in the middle, where edges cross.
LABEL_AT = 0.36
# Okabe & Ito's colours, told apart by colour-blind readers.
COLOURS = {"found": "#009e73", "reversed": "#d55e00", "extra": "#0072b2", "missing": "#999999"}

Point = tuple[float, float]


def svg(findings: Findings) -> str:
    """Return the picture: learnt edges solid, as thick as strong, missing ones dashed, with their shares."""
    places = _places(findings.rows.nodes)
    comparison = findings.comparison
    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>', _markers()]
    for status in ("missing", "found", "reversed", "extra"):
        for given in getattr(comparison, status):
            edge = reverse(given) if status == "reversed" else given
            parts.append(_edge(findings, edge, status, places))
    parts += [_node(name, place) for name, place in places.items()]
    parts.append(_legend())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="14">\n<title>{escape(findings.task.title)}: {escape(findings.method.title)}</title>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _places(nodes: tuple[str, ...]) -> dict[str, Point]:
    radii = WIDTH / 2 - MARGIN, (HEIGHT - 40) / 2 - BOX_HEIGHT
    angles = (2 * math.pi * (index / len(nodes) + 0.5 / len(nodes)) for index in range(len(nodes)))
    middle = WIDTH / 2, (HEIGHT - 40) / 2
    return {
        node: (middle[0] - radii[0] * math.cos(angle), middle[1] - radii[1] * math.sin(angle))
        for node, angle in zip(nodes, angles, strict=True)
    }


def _edge(findings: Findings, edge: Edge, status: str, places: dict[str, Point]) -> str:
    start, end = places[edge[0]], places[edge[1]]
    (x1, y1), (x2, y2) = _border(start, end), _border(end, start)
    width = min(THICKEST, max(THINNEST, THICKEST * abs(findings.strength(edge))))
    dash = ' stroke-dasharray="6 5"' if status == "missing" else ""
    line = (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{COLOURS[status]}" '
        f'stroke-width="{width:.1f}"{dash} marker-end="url(#{status})"/>'
    )
    share = findings.share(edge)
    if share is None:
        return line
    x, y = x1 + LABEL_AT * (x2 - x1), y1 + LABEL_AT * (y2 - y1)
    return line + (
        f'\n<text x="{x:.1f}" y="{y:.1f}" dy="0.35em" text-anchor="middle" fill="#000000" '
        f'stroke="#ffffff" stroke-width="5" paint-order="stroke">{share:.0%}</text>'
    )


def _border(inside: Point, towards: Point) -> Point:
    """Where the line between two nodes leaves the box of the first."""
    dx, dy = towards[0] - inside[0], towards[1] - inside[1]
    half_width, half_height = BOX_WIDTH / 2 + 4, BOX_HEIGHT / 2 + 4
    step = min(half_width / abs(dx) if dx else math.inf, half_height / abs(dy) if dy else math.inf)
    return inside[0] + step * dx, inside[1] + step * dy


def _node(name: str, place: Point) -> str:
    x, y = place[0] - BOX_WIDTH / 2, place[1] - BOX_HEIGHT / 2
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="#f4f4f4" '
        f'stroke="#333333"/>\n<text x="{place[0]:.1f}" y="{place[1]:.1f}" dy="0.35em" '
        f'text-anchor="middle">{escape(name)}</text>'
    )


def _markers() -> str:
    markers = (
        f'<marker id="{status}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="12" markerHeight="12" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="{colour}"/></marker>'
        for status, colour in COLOURS.items()
    )
    return f"<defs>{''.join(markers)}</defs>"


def _legend() -> str:
    words = {
        "found": "found as built in",
        "reversed": "found reversed",
        "extra": "learnt, not built in",
        "missing": "built in, not learnt",
    }
    step, y = (WIDTH - 20) / len(words), HEIGHT - 18
    return "\n".join(
        f'<text x="{20 + index * step:.0f}" y="{y}" fill="{COLOURS[status]}" font-size="13">{text}</text>'
        for index, (status, text) in enumerate(words.items())
    )
