"""The optimiser with which a server follows what the sites have learnt."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mucald import optimisers
from mucald.config.common import require, require_at_least
from mucald.federation.method import State
from mucald.state.checkpoint import load_optimiser_tensors, optimiser_tensors, with_prefix, without_prefix

STATISTICS = ("running_mean", "running_var")
"""What torch's normalisation layers call the only floating-point buffers of a network here."""

_STATE, _ROUNDS = "server_optimiser", "server_optimiser_rounds"


def is_statistic(name: str) -> bool:
    """Return whether a tensor of this name is a running statistic, which no gradient moves."""
    return name.rpartition(".")[2] in STATISTICS


@dataclass(frozen=True)
class ServerOptimiser:
    """An optimiser whose gradient is what the sites would undo: −(wanted − start) (Reddi et al., ICLR 2021).

    As in FLARE's ``fedopt`` the optimisers are torch's own, so Adam and Yogi correct the bias of their first
    steps, which the paper's do not. Running statistics become what is wanted, for a step could make a
    variance negative.

    Args:
        name: which one.
        learning_rate: above 0.
        momentum: of SGD, or β₁ of the others; at least 0, below 1.
        second_momentum: β₂ of Adam and Yogi; at least 0, below 1.
        epsilon: τ of Adam and Yogi, above 0.
        rounds: in so many rounds the learning rate falls along half a cosine; 0 if it does not.
        lowest_rate: where it ends then; at least 0.
    """

    name: Literal["sgd", "adam", "yogi"]
    learning_rate: float
    momentum: float = 0.9
    second_momentum: float = 0.99
    epsilon: float = 0.001
    rounds: int = 0
    lowest_rate: float = 0.0

    def __post_init__(self) -> None:
        require(self.learning_rate > 0, f"learning_rate must be above 0, not {self.learning_rate}")
        require(self.epsilon > 0, f"epsilon must be above 0, not {self.epsilon}")
        for name in ("momentum", "second_momentum"):
            value = getattr(self, name)
            require(0 <= value < 1, f"{name} must lie in [0, 1), not {value}")
        require_at_least(0, self, "rounds", "lowest_rate")

    def step(self, start: State, wanted: State, sent: Collection[str], memory: State) -> State:
        """Return weights after one step from ``start`` towards ``wanted``.

        Args:
            start: the round's first weights, by name; not written.
            wanted: the same, moved by the sites' updates.
            sent: names of the tensors that a site has sent; the others stay, whatever the momentum.
            memory: keeps the optimiser's state from round to round, written in place.
        """
        moving = {n: t for n, t in start.items() if n in sent and not is_statistic(n)}
        parameters = {name: nn.Parameter(tensor.clone()) for name, tensor in start.items()}
        for name, tensor in moving.items():
            parameters[name].grad = tensor - wanted[name]
        done = int(memory.get(_ROUNDS, torch.tensor(0)))
        optimiser = self._make(list(parameters.values()), self.rate(done))
        load_optimiser_tensors(optimiser, without_prefix(_STATE, memory))
        optimiser.step()
        memory |= with_prefix(_STATE, optimiser_tensors(optimiser)) | {_ROUNDS: torch.tensor(done + 1)}
        return {n: parameters[n].detach() if n in moving else wanted[n] for n in start}

    def rate(self, done: int) -> float:
        """Return the learning rate after ``done`` rounds, that of torch's ``CosineAnnealingLR``."""
        if not self.rounds:
            return self.learning_rate
        share = (1 + math.cos(math.pi * min(done / self.rounds, 1.0))) / 2
        return self.lowest_rate + (self.learning_rate - self.lowest_rate) * share

    def _make(self, parameters: Sequence[Tensor], rate: float) -> Optimizer:
        if self.name == "sgd":
            return optimisers.SGD(parameters, lr=rate, momentum=self.momentum)
        kinds: dict[str, Callable[..., Optimizer]] = {"adam": optimisers.Adam, "yogi": optimisers.Yogi}
        betas = (self.momentum, self.second_momentum)
        return kinds[self.name](parameters, lr=rate, betas=betas, eps=self.epsilon)
