"""The findings as text: tables of edges, and what may and may not be concluded from them."""

import textwrap

from mucald_studies.discovery.definitions import definition_of, note
from mucald_studies.discovery.findings import Findings
from mucald_studies.discovery.graphs import Edge, reverse
from mucald_studies.text import columns

WIDTH = 110

_SCALE = (
    "Every node is z-scored, so all variances are equal. With raw data NOTEARS owes most of its directions "
    "to the order of variances, which mirrors units (varsortability: Reisach, Seiler & Weichwald 2021); "
    "nothing of it is left here. Least squares then prefers to call effect what is better predicted."
)
_LINEAR = (
    "With linear effects and Gaussian noise of unknown variance the conditional independences are all that "
    "can be told. A 'reversible' direction is an accident of the score, however stable over resamples; "
    "read such an edge as: these two are joined."
)
_NONLINEAR = (
    "With nonlinear effects and additive noise directions can be identified in principle, 'reversible' ones "
    "too (Hoyer et al. 2008). That one end is better predicted is evidence only where noise is small "
    "(Blöbaum et al. 2018), and none for effects that are nearly linear."
)
_ASSUMPTIONS = (
    "A 'compelled' direction holds if the learnt graph has the right independences, no common cause of two "
    "nodes is left out, and images were not selected by the nodes. Proxies are measured on one mask of one "
    "object, so left-out common causes (its kind, its distance, the annotator) are likely."
)
_DEFINITIONS = (
    "An algebraic definition is no discovery where it is learnt, and not refuted where it is not: other "
    "terms of the formula may outweigh it. Its cause cannot be changed with all else fixed. Nodes that "
    "others nearly fix also void the independences from which directions are read (faithfulness)."
)
_STABILITY = (
    "Stability tells how much of the graph is due to the sample drawn. It says nothing of truth: an artefact "
    "of method or formula is as stable as a cause."
)
_PHANTOMS = (
    "These are phantoms: at best the graph is that of the program that draws them, and says nothing of "
    "patients."
)

Row = tuple[str, ...]


def text_report(findings: Findings) -> str:
    """Return the whole report, lines ending in a newline."""
    blocks = [_head(findings), _learnt(findings), _built_in(findings), _formulas(findings), _limits(findings)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _head(findings: Findings) -> str:
    rows, method = findings.rows, findings.method
    lines = [
        f"{findings.task.title} ({findings.task.name}): {findings.source}, seed {findings.seed}",
        f"{len(rows)} of {rows.total} training rows are complete{_left_out(findings)}",
        f"{method.title}, sparsity {method.sparsity:g}, edges from strength {findings.threshold:g} on; "
        + (f"{findings.stability.resamples} resamples" if findings.stability else "no resamples"),
    ]
    if rows.constant:
        lines.append(f"the same in all rows, hence without edges: {', '.join(rows.constant)}")
    return "\n".join(lines)


def _left_out(findings: Findings) -> str:
    missing = [f"{node} {count}" for node, count in findings.rows.missing.items() if count]
    return f"; rows with missing values are left out ({', '.join(missing)})" if missing else ""


def _learnt(findings: Findings) -> str:
    if not findings.edges:
        return "learnt graph: no edge"
    same = findings.equivalent
    head = "learnt graph" + (f", one of {same} that imply the same independences" if same > 1 else "")
    rows: list[Row] = [("edge", "strength", "this way", "other way", "direction", "")]
    for edge in findings.ordered:
        strength = f"{findings.strength(edge):{'+' if findings.method.signed else ''}.2f}"
        rows.append((_arrow(edge), strength, *_shares(findings, edge), findings.direction(edge), note(edge)))
    return f"{head}\n{columns(rows)}"


def _built_in(findings: Findings) -> str:
    comparison = findings.comparison
    counts = {name: len(getattr(comparison, name)) for name in ("found", "reversed", "missing", "extra")}
    head = "built-in graph: " + ", ".join(f"{count} {name}" for name, count in counts.items())
    status = {edge: findings.status(edge) for edge in findings.built_in}
    status |= dict.fromkeys(comparison.extra, "extra")
    rows: list[Row] = [("edge", "learnt", "this way", "other way", "direction", "")]
    for edge, word in status.items():
        rows.append((_arrow(edge), word, *_shares(findings, edge), findings.direction(edge), note(edge)))
    return f"{head}; structural Hamming distance {comparison.distance}\n{columns(rows)}"


def _formulas(findings: Findings) -> str:
    edges = [*findings.built_in, *findings.comparison.extra]
    known = {definition.edge: definition for edge in edges if (definition := definition_of(edge))}
    if not known:
        return "No edge above is an algebraic definition."
    lines = [_item(f"{_arrow(edge)} ({found.kind}): {found.text}") for edge, found in known.items()]
    return "\n".join(["edges that follow from definitions", *lines])


def _limits(findings: Findings) -> str:
    limits = [_SCALE, _LINEAR if findings.method.signed else _NONLINEAR, _ASSUMPTIONS, _DEFINITIONS]
    limits += [_STABILITY] * bool(findings.stability) + [_PHANTOMS] * findings.phantoms
    return "\n".join(["what can be concluded", *map(_item, limits)])


def _item(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="- ", subsequent_indent="  ")


def _arrow(edge: Edge) -> str:
    return f"{edge[0]} → {edge[1]}"


def _shares(findings: Findings, edge: Edge) -> Row:
    """Format the shares of resamples with the edge and with its reverse."""
    shares = findings.share(edge), findings.share(reverse(edge))
    return tuple("-" if share is None else f"{share:.0%}" for share in shares)
