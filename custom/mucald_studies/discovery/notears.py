"""Linear NOTEARS: every node a weighted sum of its causes (Zheng et al., NeurIPS 2018)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.optimize import Bounds

from mucald_studies.discovery.augmented_lagrangian import Matrix, Vector, acyclicity, minimise

START_SPREAD = 0.1


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
