"""The learnt and the built-in graph as one picture."""

import math

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mucald_studies.discovery.findings import Findings
from mucald_studies.discovery.graphs import reverse

THINNEST, THICKEST = 1.5, 5.0
# Where along an edge its share stands; not in the middle, where edges cross.
LABEL_AT = 0.36
# Okabe & Ito's colours, told apart by colour-blind readers.
KINDS = {
    "missing": ("#999999", "built in, not learnt"),
    "found": ("#009e73", "found as built in"),
    "reversed": ("#d55e00", "found reversed"),
    "extra": ("#0072b2", "learnt, not built in"),
}


def draw(findings: Findings) -> Figure:
    """Return the picture: learnt edges solid, as thick as strong, missing ones dashed, with their shares."""
    figure = Figure((6.6, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-1.2, 1.2), ylim=(-1, 1))
    axes.set_axis_off()
    axes.set_title(f"{findings.task.title}: {findings.method.title}")
    nodes = findings.rows.nodes
    angles = [math.pi * (1 - (2 * index + 1) / len(nodes)) for index in range(len(nodes))]
    places = {node: (math.cos(angle), math.sin(angle)) for node, angle in zip(nodes, angles, strict=True)}
    box = {"boxstyle": "round,pad=0.5", "facecolor": "#f4f4f4", "edgecolor": "#333333"}
    boxes = {
        node: axes.text(*place, node, ha="center", va="center", bbox=box, zorder=3).get_bbox_patch()
        for node, place in places.items()
    }
    figure.draw_without_rendering()
    for kind, (colour, _) in KINDS.items():
        for given in getattr(findings.comparison, kind):
            cause, effect = reverse(given) if kind == "reversed" else given
            width = min(THICKEST, max(THINNEST, THICKEST * abs(findings.strength((cause, effect)))))
            arrow = {
                "arrowstyle": "-|>,head_width=0.4,head_length=0.8",
                "color": colour,
                "linewidth": width,
                "linestyle": "--" if kind == "missing" else "-",
                "patchA": boxes[cause],
                "patchB": boxes[effect],
                "shrinkA": 3,
                "shrinkB": 3,
            }
            axes.annotate("", places[effect], places[cause], arrowprops=arrow)
            if (share := findings.share((cause, effect))) is not None:
                x, y = (
                    start + LABEL_AT * (end - start)
                    for start, end in zip(places[cause], places[effect], strict=True)
                )
                white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
                axes.text(x, y, f"{share:.0%}", ha="center", va="center", bbox=white)
    lines = [Line2D([], [], color=colour, label=words) for colour, words in KINDS.values()]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(KINDS), frameon=False, fontsize=8)
    return figure
