"""One update for all sites that serves the worst-off among them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from mucald.aggregation.base import Contribution, Rule, State

Matrix = NDArray[np.float64]

_TINY = 1e-150
VANISHING = 1e-8
"""A g_w shorter than so many lengths of what it is a mean of has no direction."""
_TOLERANCE = 1e-14
_ITERATIONS = 1000


@dataclass(frozen=True)
class ConflictAverse(Rule):
    """Conflict-averse aggregation (CAGrad; Liu et al., NeurIPS 2021, Algorithm 1) of the sites' updates.

    With g_i what site i's round changed, g_0 their mean and g_w = sum of w_i g_i::

        d = (g_0 + c |g_0| / |g_w| g_w) / (1 + c),  w = argmin over the simplex of g_w·g_0 + c |g_0| |g_w|

    and the shared state is the mean of what the contributors started with, plus d. Up to the factor 1 + c, d
    maximises the least g_i·d within a distance of c |g_0| from g_0. A gradient's length is absorbed by the
    learning rate, an update's is not: divided by 1 + c, updates that agree stay what they are, and the least
    g_i·d is still never below the mean's. FedHCA² (Lu et al., CVPR 2024) applies CAGrad to sites' updates
    too.

    Args:
        c: how far d may lie from the mean, in its length; at least 0, below 1. With 0 it is the mean.
    """

    c: float

    needs_start: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.c < 1:
            raise ValueError(f"c must lie in [0, 1), not {self.c}")

    def combine(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, State]:
        """Return the shared state, the same tensors for every site of ``start``."""
        coefficients = self.coefficients(_gram(start, contributions))
        shared = {}
        for name, first in contributions[0].state.items():
            total = torch.zeros_like(first, dtype=torch.float64)
            for contribution, coefficient in zip(contributions, coefficients, strict=True):
                before = start[contribution.site][name].double()
                total += before / len(contributions) + coefficient * (contribution.state[name] - before)
            shared[name] = total.to(first.dtype)
        return dict.fromkeys(start, shared)

    def coefficients(self, gram: Matrix) -> list[float]:
        """Return by how much each g_i enters d.

        Args:
            gram: the products g_i·g_j (N, N).
        """
        n = len(gram)
        weights = np.full(n, 1 / n) if n == 1 or self.c == 0 else self._weights(gram)
        norm, mean_norm = (math.sqrt(max(square, 0.0)) for square in (weights @ gram @ weights, gram.mean()))
        if norm <= VANISHING * mean_norm:
            # A g_w that vanishes has no direction to lean to.
            return [1 / n] * n
        return ((1 / n + self.c * mean_norm / norm * weights) / (1 + self.c)).tolist()

    def _weights(self, gram: Matrix) -> Matrix:
        n = len(gram)
        size = np.trace(gram) / n
        if size == 0:
            return np.full(n, 1 / n)
        # The problem does not depend on the updates' unit, but the solver's tolerance does.
        gram = gram / size
        return worst_weights(gram, gram.mean(axis=1), self.c * _root(float(gram.mean())))


def worst_weights(gram: Matrix, to_mean: Matrix, radius: float) -> Matrix:
    """Return CAGrad's w = argmin over the simplex of g_w·g_0 + radius |g_w|, with g_w = sum of w_i g_i.

    The problem is convex, so the solver's start decides nothing; its tolerance wants numbers of about 1.

    Args:
        gram: the products g_i·g_j (N, N).
        to_mean: the products g_i·g_0 (N,).
        radius: how far the update may lie from g_0, above 0.
    """
    # Imported where it is used: sites and tools, which never solve, start without it.
    from scipy.optimize import minimize

    n = len(gram)

    def objective(w: Matrix) -> tuple[float, Matrix]:
        product = gram @ w
        norm = max(_root(float(w @ product)), _TINY)
        return float(to_mean @ w) + radius * norm, to_mean + radius * product / norm

    found = minimize(
        objective,
        np.full(n, 1 / n),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        options={"ftol": _TOLERANCE, "maxiter": _ITERATIONS},
    )
    weights = np.clip(found.x, 0, 1)
    return weights / weights.sum()


def _root(square: float) -> float:
    """Return the square root of what rounding may have made negative."""
    return math.sqrt(max(square, 0.0))


def _gram(start: Mapping[str, State], contributions: Sequence[Contribution]) -> Matrix:
    """Return the products of the sites' updates over all their tensors, in float64."""
    n = len(contributions)
    gram = torch.zeros(n, n, dtype=torch.float64)
    for name in contributions[0].state:
        updates = torch.stack(
            [(c.state[name].double() - start[c.site][name].double()).flatten() for c in contributions]
        )
        gram += (updates @ updates.T).cpu()
    return gram.numpy()
