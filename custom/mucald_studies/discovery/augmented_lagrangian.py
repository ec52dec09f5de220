"""Minimise a score subject to acyclicity, h(x) = 0, by the augmented Lagrangian of NOTEARS.

Zheng, Aragam, Ravikumar & Xing, "DAGs with NO TEARS" (NeurIPS 2018), algorithm 1 and its settings.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

TOLERANCE = 1e-8
GREATEST_PENALTY = 1e16
PENALTY_GROWTH = 10.0
# h must fall to a quarter, or the penalty grows.
PROGRESS = 0.25
GREATEST_ROUNDS = 100
# Of L-BFGS in each round; the next round goes on from there.
STEPS = {"maxiter": 100}


def acyclicity(squares: Matrix) -> tuple[float, Matrix]:
    """Return h = tr((I + A/d)^d) - d and its gradient for non-negative edge weights A (d x d).

    h is 0 exactly if A is acyclic. The polynomial of Yu et al., "DAG-GNN" (ICML 2019); it does not overflow
    where the exponential of the original does.
    """
    d = len(squares)
    step = np.eye(d) + squares / d
    power = np.linalg.matrix_power(step, d - 1)
    return float(np.trace(power @ step) - d), power.T


def minimise(
    penalised: Callable[[Vector, float, float], tuple[float, Vector]],
    violation: Callable[[Vector], float],
    start: Vector,
    bounds: Bounds | None = None,
) -> Vector:
    """Return the minimiser of a score subject to ``violation(x) = 0``.

    Args:
        penalised: value and gradient of score + ρ/2 h² + α h at (x, ρ, α).
        violation: h at x.
        start: where to start.
        bounds: of x.
    """
    x, h, penalty, multiplier = start, np.inf, 1.0, 0.0
    for _ in range(GREATEST_ROUNDS):
        while True:
            arguments = (penalty, multiplier)
            result = minimize(penalised, x, arguments, "L-BFGS-B", True, bounds=bounds, options=STEPS)
            reached = result.x
            if violation(reached) <= PROGRESS * h or penalty >= GREATEST_PENALTY:
                break
            penalty *= PENALTY_GROWTH
        x, h = reached, violation(reached)
        multiplier += penalty * h
        if h <= TOLERANCE or penalty >= GREATEST_PENALTY:
            break
    return x
