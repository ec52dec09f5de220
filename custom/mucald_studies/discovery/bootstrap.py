"""How much a learnt graph owes to the sample: learn it again from resampled rows (Efron 1979)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mucald.randomness import generator
from mucald_studies.discovery.augmented_lagrangian import Matrix
from mucald_studies.discovery.graphs import Edge, to_dag
from mucald_studies.discovery.rows import Rows, standardise


class Estimator(Protocol):
    """Learns strengths of edges (cause, effect) from centred samples (rows x nodes)."""

    def fit(self, samples: Matrix, rng: np.random.Generator) -> Matrix:
        """Return the strengths, nodes x nodes."""
        ...


@dataclass(frozen=True)
class Stability:
    """Over how many resamples an edge appears.

    Args:
        nodes: names of the nodes.
        resamples: number of graphs learnt.
        shares: share of them with the edge from cause (row) to effect (column).
    """

    nodes: tuple[str, ...]
    resamples: int
    shares: Matrix

    def share(self, edge: Edge) -> float:
        """Return the share of resamples that have the edge in this direction."""
        cause, effect = map(self.nodes.index, edge)
        return float(self.shares[cause, effect])


def learn(rows: Rows, estimator: Estimator, threshold: float, seed: int) -> Matrix:
    """Return the strengths of the acyclic graph learnt from all rows; 0 where there is no edge."""
    return to_dag(estimator.fit(rows.values, generator(seed, "discovery")), threshold)


def bootstrap(
    rows: Rows,
    estimator: Estimator,
    threshold: float,
    resamples: int,
    seed: int,
    progress: Callable[[int], None] = lambda _done: None,
) -> Stability:
    """Learn a graph from each of ``resamples`` draws of as many rows, with replacement.

    Args:
        rows: the sample.
        estimator: learns strengths.
        threshold: the least strength of an edge.
        resamples: number of draws, at least 1.
        seed: names the draws; equal seeds give equal results.
        progress: is told how many resamples are done after each.
    """
    counts = np.zeros((len(rows.nodes), len(rows.nodes)))
    for resample in range(resamples):
        rng = generator(seed, "discovery", "bootstrap", resample)
        drawn = standardise(rows.values[rng.integers(0, len(rows), len(rows))])
        counts += to_dag(estimator.fit(drawn, rng), threshold) != 0
        progress(resample + 1)
    return Stability(rows.nodes, resamples, counts / resamples)
