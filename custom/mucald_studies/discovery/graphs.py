"""Directed graphs as sets of edges: from strengths to a DAG, what independences say of it, and comparison."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mucald_studies.discovery.notears import Matrix

Edge = tuple[str, str]
Edges = frozenset[Edge]


def to_dag(strengths: Matrix, threshold: float) -> Matrix:
    """Set strengths below ``threshold`` to 0, then the weakest edge of a cycle until none is left."""
    kept = np.where(np.abs(strengths) >= threshold, strengths, 0.0)
    while (cyclic := _on_cycles(kept != 0)).any():
        kept[np.unravel_index(np.where(cyclic, np.abs(kept), np.inf).argmin(), kept.shape)] = 0.0
    return kept


def _on_cycles(adjacency: NDArray[np.bool_]) -> NDArray[np.bool_]:
    reachable = adjacency.copy()
    for node in range(len(adjacency)):
        reachable |= np.outer(reachable[:, node], reachable[node])
    return adjacency & reachable.T


def edges_of(strengths: Matrix, nodes: tuple[str, ...]) -> Edges:
    """Return the (cause, effect) pairs of non-zero strength."""
    return frozenset((nodes[cause], nodes[effect]) for cause, effect in np.argwhere(strengths != 0))


def reverse(edge: Edge) -> Edge:
    """Return (effect, cause)."""
    return edge[1], edge[0]


def markov_class(edges: Edges) -> set[Edges]:
    """Return all DAGs that imply the same conditional independences as this one, itself included.

    They are reached by reversing covered edges, those whose ends have otherwise the same causes (Chickering,
    "A transformational characterization of equivalent Bayesian network structures", UAI 1995, theorem 2).
    """
    found, queue = {edges}, [edges]
    while queue:
        graph = queue.pop()
        for edge in graph:
            if _parents(graph, edge[1]) - {edge[0]} == _parents(graph, edge[0]):
                other = graph - {edge} | {reverse(edge)}
                queue += [other] if other not in found else []
                found.add(other)
    return found


def _parents(edges: Edges, node: str) -> set[str]:
    return {cause for cause, effect in edges if effect == node}


def reversible(edges: Edges) -> Edges:
    """Return the edges whose direction the independences leave open; that of the others is compelled."""
    return frozenset(edge for edge in edges if any(reverse(edge) in graph for graph in markov_class(edges)))


@dataclass(frozen=True)
class Comparison:
    """How a learnt graph differs from a given one: edges of the given one that were ``found``, learnt
    ``reversed``, or are ``missing``, and ``extra`` ones between nodes that the given one does not join.
    """

    found: tuple[Edge, ...]
    reversed: tuple[Edge, ...]
    missing: tuple[Edge, ...]
    extra: tuple[Edge, ...]

    @property
    def distance(self) -> int:
        """Structural Hamming distance: edges to add, remove or reverse."""
        return len(self.reversed) + len(self.missing) + len(self.extra)

    def status(self, edge: Edge) -> str:
        """Return ``found``, ``reversed`` or ``missing`` for an edge of the given graph."""
        return next(name for name in ("found", "reversed", "missing") if edge in getattr(self, name))


def compare(learnt: Edges, given: Iterable[Edge]) -> Comparison:
    """Compare a learnt graph with a given one, whose order of edges is kept."""
    given = tuple(given)
    return Comparison(
        tuple(edge for edge in given if edge in learnt),
        tuple(edge for edge in given if reverse(edge) in learnt),
        tuple(edge for edge in given if not {edge, reverse(edge)} & learnt),
        tuple(sorted(learnt - {*given, *map(reverse, given)})),
    )
