"""How an attacker trains: seeded, until its loss on held-out images is flat."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mucald import optimisers
from mucald.errors import AttackError

Curve = tuple[tuple[int, float], ...]
"""(step, loss on the attacker's held-out images)."""


@dataclass(frozen=True)
class Budget:
    """What an attacker may spend.

    Args:
        seed: all of the attacker's draws follow from it.
        auxiliary: auxiliary images.
        batch: images per step.
        max_steps: the end, flat or not.
        interval: steps between two looks at the held-out loss.
        patience: looks without an improvement before the rate is lowered, or training ends.
        tolerance: relative improvement that counts.
        rate: learning rate of Adam at the start.
        reductions: how often the rate is lowered to a third before training ends.
        width: channels of the attacker's networks at full resolution of the latent.
        leaked: share of the training images in the attacker's hands, for knowledge ``pairs``.
    """

    seed: int = 0
    auxiliary: int = 384
    batch: int = 16
    max_steps: int = 1500
    interval: int = 25
    patience: int = 3
    tolerance: float = 0.01
    rate: float = 2e-3
    reductions: int = 2
    width: int = 32
    leaked: float = 0.5

    def __post_init__(self) -> None:
        if min(self.auxiliary, self.batch, self.max_steps, self.interval, self.patience, self.width) < 1:
            raise AttackError("every count of the attacker's budget must be at least 1")
        if not 0 < self.leaked < 1:
            raise AttackError(f"leaked must be a share between 0 and 1, not {self.leaked}")


def fit(
    model: nn.Module, loss: Callable[[int], Tensor], held_out: Callable[[], Tensor], budget: Budget
) -> Curve:
    """Train ``model`` until its held-out loss is flat; leave it with its best weights, in evaluation mode.

    ``loss`` maps the step to a differentiable loss and draws its own batch; ``held_out`` is computed in
    evaluation mode. Returns the learning curve.

    Raises:
        AttackError: the held-out loss is not finite.
    """
    optimiser = optimisers.Adam(model.parameters(), lr=budget.rate)
    curve: list[tuple[int, float]] = []
    best, best_state, waited, reductions = float("inf"), copy.deepcopy(model.state_dict()), 0, 0
    for step in range(1, budget.max_steps + 1):
        model.train()
        optimiser.zero_grad(set_to_none=True)
        loss(step).backward()
        optimiser.step()
        if step % budget.interval and step != budget.max_steps:
            continue
        model.eval()
        with torch.no_grad():
            value = float(held_out())
        if value != value:
            raise AttackError(f"the attacker's training diverged at step {step}; lower its learning rate")
        curve.append((step, value))
        waited = 0 if value < best * (1 - budget.tolerance) else waited + 1
        if value < best:
            best, best_state = value, copy.deepcopy(model.state_dict())
        if waited >= budget.patience:
            if reductions == budget.reductions:
                break
            reductions, waited = reductions + 1, 0
            for group in optimiser.param_groups:
                group["lr"] /= 3
    model.load_state_dict(best_state)
    model.eval()
    return tuple(curve)
