"""Synthetic tables with a known graph."""

import numpy as np
from numpy.typing import NDArray

from mucald.randomness import generator
from mucald_studies.discovery.rows import standardise

Matrix = NDArray[np.float64]


def linear_samples(index: int, count: int = 1000, d: int = 4) -> tuple[Matrix, NDArray[np.bool_]]:
    """Draw a random linear DAG with noise of unequal variance, and centred samples of it in random order."""
    rng = generator("linear samples", index)
    adjacency = np.triu(rng.random((d, d)) < 0.5, 1)
    weights = adjacency * rng.uniform(0.6, 1.6, (d, d)) * rng.choice([-1, 1], (d, d))
    noise = rng.standard_normal((count, d)) * rng.uniform(0.5, 1.5, d)
    order = rng.permutation(d)
    samples = (noise @ np.linalg.inv(np.eye(d) - weights))[:, order]
    return samples - samples.mean(axis=0), adjacency[np.ix_(order, order)]


def parabola(count: int, index: int) -> Matrix:
    """Draw (effect, cause), z-scored, with effect = cause² + noise."""
    rng = generator("parabola", index)
    cause = rng.standard_normal(count)
    return standardise(np.stack([cause**2 + 0.5 * rng.standard_normal(count), cause], axis=1))


def errors(learnt: NDArray[np.bool_], true: NDArray[np.bool_]) -> tuple[int, int]:
    """Return (pairs wrongly joined or not joined, edges that are reversed)."""
    joined, meant = learnt | learnt.T, true | true.T
    wrong = int(np.triu(joined != meant).sum())
    return wrong, int((joined & meant & (learnt != true)).sum()) // 2
