"""A server step along the sites' gradients, with conflicts between them projected away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mucald.aggregation.base import Contribution, Rule, State

PREVIOUS, VELOCITY = "previous", "velocity"


@dataclass(frozen=True)
class FedBone(Rule):
    """GPAggregation of FedBone (Chen et al., 2023, arXiv 2306.17465).

    A site's gradient is f_i = start_i - end_i of its round. FedBone takes one step a round on the gradients
    themselves; beside methods that train their copies for whole epochs that would only handicap it.

    1. s_i = cos(f_i, previous aggregate), in the first round cos(f_i, mean of f);
       g_i = N · softmax(s - min s)_i · f_i, so that equal similarities leave the gradients as they are.
    2. For every j ≠ i with g_i · g_j < 0, g_i loses its part along g_j, one after the other in order of site.
       As in PCGrad (Yu et al., NeurIPS 2020), g_j is the one before any projection.
    3. The mean of g is the aggregate, and the gradient of SGD with momentum on the shared network.

    Args:
        learning_rate: the server's step, positive; 1 makes the step of an average.
        momentum: 0 to below 1.
    """

    learning_rate: float
    momentum: float

    needs_start: ClassVar[bool] = True
    one_for_all: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, not {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), not {self.momentum}")

    def combine(
        self, start: Mapping[str, State], contributions: Sequence[Contribution], memory: State
    ) -> dict[str, State]:
        """Return for every site of ``start`` its state after the server's step."""
        names = sorted(contributions[0].state)
        ends = torch.stack([_flat(c.state, names) for c in contributions])
        gradients = torch.stack([_flat(start[c.site], names) for c in contributions]) - ends
        aggregate = aggregated(gradients, memory.get(PREVIOUS, gradients.mean(dim=0)))
        velocity = aggregate + self.momentum * memory.get(VELOCITY, torch.zeros_like(aggregate))
        memory[PREVIOUS], memory[VELOCITY] = aggregate, velocity
        return {site: _moved(state, names, -self.learning_rate * velocity) for site, state in start.items()}


def aggregated(gradients: Tensor, reference: Tensor) -> Tensor:
    """Return GPAggregation's result (P,) for gradients (N, P) and the previous aggregate (P,), float64."""
    similarity = F.cosine_similarity(gradients, reference[None])
    scaled = len(gradients) * (similarity - similarity.min()).softmax(dim=0)[:, None] * gradients
    products = scaled @ scaled.T
    # Projected gradients are combinations of the scaled ones, so that numbers suffice: a row for each.
    combination = torch.eye(len(gradients)).to(gradients)
    for i, row in enumerate(combination):
        for j in range(len(gradients)):
            if i != j and (overlap := row @ products[:, j]) < 0:
                row[j] -= overlap / products[j, j]
    return combination.mean(dim=0) @ scaled


def _flat(state: State, names: Sequence[str]) -> Tensor:
    return torch.cat([state[name].flatten().double() for name in names])


def _moved(state: State, names: Sequence[str], step: Tensor) -> State:
    pieces = step.split([state[name].numel() for name in names])
    return {
        name: (state[name] + piece.view_as(state[name])).to(state[name].dtype)
        for name, piece in zip(names, pieces, strict=True)
    }
