"""The table that a graph is learnt from, and how much the graph owes to it.

The table has z-scored proxies, one complete row per training image. Learnt again from resampled rows (Efron
1979), a graph shows what the sample decided.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mucald.data.measures import training_statistics
from mucald.errors import DataError
from mucald.randomness import generator
from mucald_studies.discovery.graphs import Edge, to_dag
from mucald_studies.discovery.notears import Matrix

# The usual rule of thumb for a regression: ten observations for each variable.
ROWS_PER_NODE = 10


@dataclass(frozen=True)
class Rows:
    """What is known of the nodes.

    Args:
        nodes: names of the columns.
        values: rows x nodes, z-scored over these rows; 0 throughout for a node that does not vary.
        total: number of rows before incomplete ones were left out.
        missing: how many of those lacked each node.
    """

    nodes: tuple[str, ...]
    values: Matrix
    total: int
    missing: dict[str, int]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def constant(self) -> tuple[str, ...]:
        """Nodes that do not vary, of which no edge can be learnt."""
        return tuple(node for node, column in zip(self.nodes, self.values.T, strict=True) if not column.any())


def complete_rows(nodes: tuple[str, ...], values: Matrix) -> Rows:
    """Leave out the rows (rows x nodes) that lack a value, NaN, and z-score the others.

    Leaving out is unbiased where values are missing at random; imputing them would invent dependence.

    Raises:
        DataError: fewer than ten complete rows are left for each node.
    """
    defined = np.isfinite(values)
    complete = values[defined.all(axis=1)]
    missing = dict(zip(nodes, (~defined).sum(axis=0).tolist(), strict=True))
    needed = ROWS_PER_NODE * len(nodes)
    if len(complete) < needed:
        lacking = ", ".join(f"{node} in {count}" for node, count in missing.items() if count)
        raise DataError(
            f"{len(complete)} complete training rows, but a graph of {len(nodes)} nodes needs {needed}"
            + (f" (missing: {lacking} of {len(values)} rows)" if lacking else "")
            + f": {ROWS_PER_NODE} for each",
            public="too few complete rows to learn a graph from",
        )
    return Rows(nodes, standardise(complete), len(values), missing)


def standardise(values: Matrix) -> Matrix:
    """Z-score every column (ddof 1); one that does not vary becomes 0."""
    mean, deviation = training_statistics(values)
    return np.where(deviation > 0, (values - mean) / np.where(deviation > 0, deviation, 1), 0.0)


class Estimator(Protocol):
    """Learns strengths of edges (cause, effect) from centred samples (rows x nodes)."""

    def fit(self, samples: Matrix, rng: np.random.Generator) -> Matrix:
        """Return the strengths, nodes x nodes."""
        ...


@dataclass(frozen=True)
class Stability:
    """The ``shares`` of all resamples that have the edge from cause (row) to effect (column)."""

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

    Equal seeds give equal results; ``progress`` is told how many resamples are done after each.
    """
    counts = np.zeros((len(rows.nodes), len(rows.nodes)))
    for resample in range(resamples):
        rng = generator(seed, "discovery", "bootstrap", resample)
        drawn = standardise(rows.values[rng.integers(0, len(rows), len(rows))])
        counts += to_dag(estimator.fit(drawn, rng), threshold) != 0
        progress(resample + 1)
    return Stability(rows.nodes, resamples, counts / resamples)
