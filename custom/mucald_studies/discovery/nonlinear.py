"""Nonlinear NOTEARS: every node a small neural network of its causes.

Zheng, Dan, Aragam, Ravikumar & Xing, "Learning Sparse Nonparametric DAGs" (AISTATS 2020), NOTEARS-MLP.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from mucald_studies.discovery.notears import Matrix, Vector, acyclicity, minimise

START_SPREAD = 0.3
WARM_UP_STEPS = {"maxiter": 200}
WARM_UP_DECAY = 1e-3
# Makes a norm differentiable at 0; well below any weight that matters.
SMOOTHING = 1e-6


@dataclass(frozen=True)
class NonlinearNotears:
    """Minimises ½ E‖x - f(x)‖² + λ₁ Σ ‖A_ij‖₂ + λ₂/2 ‖B‖² over acyclic networks f.

    A_ij are the weights of the first layer from node i into the network of node j: node i is no cause of j
    exactly if they are 0, and acyclicity is asked of their squared norms. λ₁ penalises them by the group.
    λ₂ does so with the second layer's weights B, or else A could shrink while B grows, leaving f as it is and
    every cycle allowed.

    Args:
        sparsity: λ₁.
        decay: λ₂.
        hidden: sigmoid units of each node's network.
    """

    title: ClassVar[str] = "nonlinear NOTEARS"
    signed: ClassVar[bool] = False

    sparsity: float = 0.02
    decay: float = 0.01
    hidden: int = 10

    def fit(self, samples: Matrix, rng: np.random.Generator) -> Matrix:
        """Return the strengths of edges (cause i, effect j) for centred samples (rows x nodes).

        A strength is the root mean square of ∂f_j/∂x_i over the samples, the paper's measure of dependence.
        It has the scale of a linear weight and does not depend on how the layers share it.
        """
        x = torch.from_numpy(np.ascontiguousarray(samples))
        d = samples.shape[1]

        def build(flat: Vector) -> _Networks:
            return _Networks(torch.from_numpy(flat), d, self.hidden)

        def penalised(flat: Vector, penalty: float, multiplier: float) -> tuple[float, Vector]:
            networks = build(flat)
            squares = networks.group_squares()
            h, h_gradient = acyclicity(squares.detach().numpy())
            # The gradient of ρ/2 h² + α h, as that of a product of the squares with what counts as constant.
            slope = (penalty * h + multiplier) * torch.from_numpy(h_gradient)
            loss = networks.loss(x) + self._size(networks)
            gradient = networks.gradient(loss + (slope * squares).sum())
            return loss.item() + penalty / 2 * h**2 + multiplier * h, gradient

        def violation(flat: Vector) -> float:
            return acyclicity(build(flat).group_squares().detach().numpy())[0]

        def free(flat: Vector) -> tuple[float, Vector]:
            networks = build(flat)
            loss = networks.loss(x) + WARM_UP_DECAY / 2 * networks.flat.square().sum()
            return loss.item(), networks.gradient(loss)

        start = START_SPREAD * rng.standard_normal(_Networks.size(d, self.hidden))
        # Without the penalties first: an effect without a linear part, such as x², cannot grow against them.
        start = minimize(free, start, method="L-BFGS-B", jac=True, options=WARM_UP_STEPS).x
        return build(minimise(penalised, violation, start)).strengths(x)

    def _size(self, networks: "_Networks") -> Tensor:
        groups = (networks.group_squares() + SMOOTHING**2).sqrt().sum()
        return self.sparsity * groups + self.decay / 2 * networks.outer.square().sum()


class _Networks:
    """One network of one hidden layer for each of d nodes, of ``flat`` parameters; none sees its own node."""

    def __init__(self, flat: Tensor, d: int, hidden: int):
        self.flat = flat.requires_grad_()
        inner, bias, outer, self.constant = self.flat.split([d * hidden * d, hidden * d, hidden * d, d])
        # (cause, unit, effect)
        self.inner = inner.view(d, hidden, d) * (1 - torch.eye(d, dtype=flat.dtype))[:, None]
        self.bias, self.outer = bias.view(hidden, d), outer.view(hidden, d)

    @staticmethod
    def size(d: int, hidden: int) -> int:
        """Return the number of parameters."""
        return d * hidden * d + 2 * hidden * d + d

    def _units(self, x: Tensor) -> Tensor:
        return torch.sigmoid(torch.tensordot(x, self.inner, dims=1) + self.bias)

    def loss(self, x: Tensor) -> Tensor:
        """Return half the squared error, mean over rows, of predicting every node from the others."""
        predicted = (self._units(x) * self.outer).sum(dim=1) + self.constant
        return 0.5 * (x - predicted).square().sum() / len(x)

    def gradient(self, loss: Tensor) -> Vector:
        """Return the gradient of ``loss`` by all parameters."""
        return torch.autograd.grad(loss, self.flat)[0].numpy()

    def group_squares(self) -> Tensor:
        """Return the squared norms of the first layer's weights by (cause, effect)."""
        return self.inner.square().sum(dim=1)

    @torch.no_grad()
    def strengths(self, x: Tensor) -> Matrix:
        """Return the root mean square of ∂f_j/∂x_i over the rows, causes x effects."""
        units = self._units(x)
        slopes = torch.einsum("imj,nmj->nij", self.inner, units * (1 - units) * self.outer)
        return slopes.square().mean(dim=0).sqrt().numpy()
