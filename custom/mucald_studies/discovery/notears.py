"""Linear NOTEARS, every node a weighted sum of its causes; and how a score is minimised over acyclic graphs.

Zheng, Aragam, Ravikumar & Xing, "DAGs with NO TEARS" (NeurIPS 2018), algorithm 1 and its settings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

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
START_SPREAD = 0.1


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
    """Return the minimiser of a score subject to ``violation(x) = 0``, by an augmented Lagrangian.

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
            reached = minimize(penalised, x, arguments, "L-BFGS-B", True, bounds=bounds, options=STEPS).x
            if violation(reached) <= PROGRESS * h or penalty >= GREATEST_PENALTY:
                break
            penalty *= PENALTY_GROWTH
        x, h = reached, violation(reached)
        multiplier += penalty * h
        if h <= TOLERANCE or penalty >= GREATEST_PENALTY:
            break
    return x


@dataclass(frozen=True)
class LinearNotears:
    """Minimises ½ E‖x - xW‖² + λ ‖W‖₁ over acyclic W (the paper's program 6).

    Args:
        sparsity: λ.
    """

    title: ClassVar[str] = "linear NOTEARS"
    signed: ClassVar[bool] = True

    sparsity: float = 0.05

    def fit(self, samples: Matrix, rng: np.random.Generator) -> Matrix:
        """Return W, entry (i, j) the weight of cause i in effect j, for centred samples (rows x nodes)."""
        # All that the score knows of the samples.
        covariance = samples.T @ samples / len(samples)
        d = len(covariance)
        identity = np.eye(d)

        def penalised(halves: Vector, penalty: float, multiplier: float) -> tuple[float, Vector]:
            weights = _signed(halves, d)
            h, h_gradient = acyclicity(weights**2)
            value = _loss(weights, covariance) + penalty / 2 * h**2 + multiplier * h
            slope = -covariance @ (identity - weights) + (penalty * h + multiplier) * h_gradient * 2 * weights
            gradient = np.concatenate([slope.ravel(), -slope.ravel()])
            return value + self.sparsity * halves.sum(), gradient + self.sparsity

        # At 0, where the paper starts, two z-scored nodes are drawn to both directions alike.
        start = START_SPREAD * rng.standard_normal((d, d)) * (1 - identity)
        halves = np.concatenate([np.maximum(start, 0).ravel(), np.maximum(-start, 0).ravel()])
        # W = positive - negative part, both at least 0, makes the L1 norm smooth; no node causes itself.
        bounds = Bounds(0, np.tile(np.where(identity.ravel() > 0, 0, np.inf), 2))
        return _signed(minimise(penalised, lambda x: acyclicity(_signed(x, d) ** 2)[0], halves, bounds), d)

    def score(self, weights: Matrix, samples: Matrix) -> float:
        """Return the objective of ``weights`` for centred samples."""
        loss = _loss(weights, samples.T @ samples / len(samples))
        return loss + self.sparsity * float(np.abs(weights).sum())


def _loss(weights: Matrix, covariance: Matrix) -> float:
    residual = np.eye(len(weights)) - weights
    return float(0.5 * np.trace(residual.T @ covariance @ residual))


def _signed(halves: Vector, d: int) -> Matrix:
    return (halves[: d * d] - halves[d * d :]).reshape(d, d)
