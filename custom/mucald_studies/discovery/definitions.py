"""Which proxies contain each other by definition: dependence that is arithmetic, not a finding.

Keyed by the names of proxies, which mean the same in every task. The formulas are those of
:mod:`mucald.methods.split.causal.proxies`.
"""

from dataclasses import dataclass
from typing import Literal

from mucald_studies.discovery.graphs import Edge, reverse


@dataclass(frozen=True)
class Definition:
    """One proxy that another one follows from, alone or with others.

    Args:
        argument: the proxy that is put in.
        result: the proxy that comes out.
        kind: ``formula`` if the argument (or the area that it counts) stands in the formula of the result;
            ``geometry`` if both measure one outline and one nearly fixes the other for its typical shape.
        text: the formula or the reason.
    """

    argument: str
    result: str
    kind: Literal["formula", "geometry"]
    text: str

    @property
    def edge(self) -> Edge:
        """(argument, result)."""
        return self.argument, self.result


_ELLIPSE = "a head is nearly an ellipse: any two of area, perimeter and major axis fix the third"
_CIRCULARITY = "HeadCircularity = 4π HeadArea / HeadPerimeter², for a head of one piece without holes"

DEFINITIONS = (
    Definition("HeadArea", "HeadCircularity", "formula", _CIRCULARITY),
    Definition("HeadPerimeter", "HeadCircularity", "formula", _CIRCULARITY),
    Definition(
        "HeadMajorAxis",
        "HeadCircularity",
        "geometry",
        "not in the formula, but area and major axis of an ellipse fix its circularity",
    ),
    Definition("HeadArea", "HeadPerimeter", "geometry", _ELLIPSE),
    Definition("HeadArea", "HeadMajorAxis", "geometry", _ELLIPSE),
    Definition("HeadPerimeter", "HeadMajorAxis", "geometry", _ELLIPSE),
    Definition(
        "LesionSize",
        "Compactness",
        "formula",
        "Compactness = P² / (4πA), A the part of LesionSize in the largest piece, holes filled",
    ),
    Definition("LesionSize", "Asymmetry", "formula", "Asymmetry = mismatched pixels / LesionSize"),
    Definition(
        "LesionSize",
        "Solidity",
        "formula",
        "Solidity = A / area of the convex hull, A the part of LesionSize in the largest piece, holes filled",
    ),
    Definition(
        "LesionSize", "Perimeter", "geometry", "the perimeter of a shape grows with the root of its area"
    ),
    Definition(
        "NucleusArea",
        "NucleusSolidity",
        "formula",
        "NucleusSolidity = A / area of the convex hull, A the part of NucleusArea in the largest piece, "
        "holes filled",
    ),
    Definition("NucleusArea", "CellArea", "formula", "CellArea = NucleusArea + pixels of cytoplasm"),
)


def definition_of(edge: Edge) -> Definition | None:
    """Return the definition that ties the two ends of an edge, whichever way round; None if there is none."""
    return next((d for d in DEFINITIONS if d.edge in (edge, reverse(edge))), None)


def note(edge: Edge) -> str:
    """Return in a few words how an edge relates to a definition; empty if there is none."""
    definition = definition_of(edge)
    if definition is None:
        return ""
    words = "algebraic definition" if definition.kind == "formula" else "geometric near-identity"
    backwards = definition.kind == "formula" and definition.edge != edge
    return words + (", read backwards" if backwards else "")
