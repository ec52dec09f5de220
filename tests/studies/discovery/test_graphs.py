import itertools

import numpy as np
import pytest

from mucald.randomness import generator
from mucald_studies.discovery.graphs import (
    Edges,
    compare,
    edges_of,
    markov_class,
    reverse,
    reversible,
    to_dag,
)

NODES = ("a", "b", "c", "d")


def graph(text: str) -> Edges:
    return frozenset((cause, effect) for cause, effect in text.split())


def is_acyclic(edges: Edges) -> bool:
    return any(
        all(order.index(cause) < order.index(effect) for cause, effect in edges)
        for order in itertools.permutations(NODES)
    )


def colliders(edges: Edges) -> set[tuple[frozenset[str], str]]:
    """Return the pairs of causes that meet in an effect and are not joined themselves."""
    joined = {frozenset(edge) for edge in edges}
    return {
        (frozenset((one, other)), effect)
        for one, effect in edges
        for other, second in edges
        if effect == second and one != other and frozenset((one, other)) not in joined
    }


def all_orientations(edges: Edges) -> list[Edges]:
    choices = [(edge, reverse(edge)) for edge in sorted(edges)]
    return [g for turned in itertools.product(*choices) if is_acyclic(g := frozenset(turned))]


def test_to_dag_drops_weak_edges_and_the_weakest_of_a_cycle() -> None:
    strengths = np.zeros((4, 4))
    strengths[0, 1], strengths[1, 2], strengths[2, 0], strengths[0, 3] = 0.9, -0.3, 0.5, 0.2
    strengths[3, 2] = 0.05
    assert edges_of(to_dag(strengths, 0.1), NODES) == graph("ab ca ad")
    # 0.2 is weaker than all of the cycle, and stays, since it is on none.
    assert edges_of(to_dag(strengths, 0.4), NODES) == graph("ab ca")


def test_to_dag_of_random_strengths_is_acyclic_and_keeps_an_acyclic_graph() -> None:
    for index in range(20):
        rng = generator("strengths", index)
        full = rng.standard_normal((4, 4)) * (1 - np.eye(4))
        assert is_acyclic(edges_of(to_dag(full, 0.05), NODES))
        triangular = np.triu(full, 1)
        assert (to_dag(triangular, 0.0) == triangular).all()


@pytest.mark.parametrize("index", range(8))
def test_markov_class_is_all_dags_with_the_same_pairs_and_colliders(index: int) -> None:
    """The criterion of Verma & Pearl (1990)."""
    drawn = generator("markov", index).random((4, 4)) < 0.6
    edges = edges_of(np.triu(drawn, 1).astype(float), NODES)
    same = {other for other in all_orientations(edges) if colliders(other) == colliders(edges)}
    assert markov_class(edges) == same


def test_reversible_edges() -> None:
    assert reversible(graph("ab bc")) == graph("ab bc")
    assert reversible(graph("ac bc")) == frozenset()
    # The collider also fixes what follows it.
    assert reversible(graph("ac bc cd")) == frozenset()
    assert len(markov_class(graph("ab ac bc"))) == 6
    assert markov_class(frozenset()) == {frozenset()}


def test_compare() -> None:
    comparison = compare(graph("ab cb dc"), [("a", "b"), ("b", "c"), ("a", "d")])
    assert comparison.found == (("a", "b"),)
    assert comparison.reversed == (("b", "c"),)
    assert comparison.missing == (("a", "d"),)
    assert comparison.extra == (("d", "c"),)
    assert comparison.distance == 3
    assert comparison.status(("b", "c")) == "reversed"
    assert comparison.status(("a", "d")) == "missing"
