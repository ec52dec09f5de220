"""What an algorithm decides: the networks, how they learn, what leaves, and what classifies in the end."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mucald import optimisers, randomness
from mucald.aggregation.base import moved_by_mean
from mucald.federation.method import State
from mucald.methods.generative.config import OptimiserConfig
from mucald.privacy.dp.steps import PrivateStep
from mucald.state.checkpoint import (
    load_optimiser_tensors,
    optimiser_tensors,
    with_prefix,
    without_prefix,
)


@dataclass(frozen=True)
class Samples:
    """Features (N, k) of some samples and their classes (N,)."""

    x: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, rows: Tensor) -> "Samples":
        """Return the samples ``rows``."""
        return Samples(self.x[rows], self.labels[rows])

    @classmethod
    def together(cls, parts: Sequence["Samples"]) -> "Samples":
        """Return the samples of several sites as one."""
        return cls(torch.cat([part.x for part in parts]), torch.cat([part.labels for part in parts]))


def make_optimiser(module: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """Return the job's optimiser of a module."""
    if config.name == "sgd":
        return optimisers.SGD(module.parameters(), lr=config.learning_rate, momentum=config.momentum)
    return optimisers.Adam(module.parameters(), lr=config.learning_rate, betas=(config.momentum, 0.999))


class Learner(ABC):
    """What a site trains, and keeps from round to round.

    Args:
        module: all networks.
        shared: names of the children of ``module`` whose weights travel.
        config: the optimiser.
    """

    def __init__(self, module: nn.Module, shared: Sequence[str], config: OptimiserConfig):
        self.module, self._names = module, tuple(shared)
        self.optimiser = make_optimiser(module, config)

    @abstractmethod
    def losses(self, samples: Samples, key: randomness.Key) -> Tensor:
        """Return the loss of every sample (B,); ``key`` names draws that nobody's privacy hangs on."""

    def private_step(
        self, samples: Samples, step: PrivateStep, noise_key: randomness.Key, key: randomness.Key, rate: float
    ) -> float:
        """Take a step over all samples with clipped and noised gradients; return the noised loss."""

        def losses(rows: Tensor) -> Tensor:
            return self.losses(samples.at(rows), (*key, int(rows[0])))

        loss = step.gradients(self.module, losses, len(samples), noise_key)
        optimisers.scale_rates(self.optimiser, rate)
        self.optimiser.step()
        return loss

    def plain_step(self, samples: Samples, key: randomness.Key, rate: float, begun: State) -> float:
        """Take a step over a mini-batch; return its mean loss. ``begun`` is what the round began with."""
        loss = self.losses(samples, key).mean()
        self.optimiser.zero_grad(set_to_none=True)
        self.objective(loss, begun).backward()
        optimisers.scale_rates(self.optimiser, rate)
        self.optimiser.step()
        return float(loss.detach())

    def objective(self, loss: Tensor, begun: State) -> Tensor:
        """Return what a mini-batch minimises: its mean loss, and what a method adds to it."""
        return loss

    def shared(self) -> State:
        """Return the module's own tensors that travel, by name."""
        state = self.module.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in state.items() if name.split(".")[0] in self._names}

    def state(self) -> State:
        """Return everything that a checkpoint holds."""
        weights = {name: tensor.detach() for name, tensor in self.module.state_dict().items()}
        return with_prefix("weights", weights) | with_prefix("optimiser", optimiser_tensors(self.optimiser))

    def load_state(self, tensors: State) -> None:
        """Restore what :meth:`state` returned."""
        self.module.load_state_dict(without_prefix("weights", tensors))
        load_optimiser_tensors(self.optimiser, without_prefix("optimiser", tensors))


class Algorithm(ABC):
    """Subclasses are frozen dataclasses; their fields are their arguments in the job's JSON."""

    part: ClassVar[str | None] = None
    """What leaves, as policies call it, without the words that tell of noise; None where nothing does."""

    loss: ClassVar[str] = ""
    """Name of the loss that sites report; empty where nothing is minimised together."""

    serves: ClassVar[Literal["generator", "classifier", "nothing"]] = "nothing"
    """What a site gets: something to draw embeddings from, a classifier, or nothing."""

    mixes: ClassVar[bool] = True
    """Whether a site's own classifier is mixed with that of all; otherwise that of all is tested alone."""

    once: ClassVar[bool] = False
    """Whether a site takes one step in its first round, and none later."""

    pooled: ClassVar[bool] = False
    """Whether one participant holds the data of all sites."""

    @abstractmethod
    def learner(
        self, dimension: int, n_classes: int, hidden: Sequence[int], config: OptimiserConfig
    ) -> Learner | None:
        """Build what a site trains; None where nothing is trained together.

        Args:
            dimension: numbers k of a feature.
            n_classes: classes K.
            hidden: widths of a classifier's layers.
            config: the optimiser.
        """

    def combine(self, weights: State, changes: Sequence[State], sizes: Sequence[int]) -> State:
        """Return the shared weights moved by the sites' changes, here their mean by size (FedAvg)."""
        return moved_by_mean(weights, changes, sizes)

    def sample(self, learner: Learner, labels: Tensor, key: randomness.Key) -> Tensor:
        """Draw features (B, k) of classes (B,) from the shared weights of a learner."""
        raise NotImplementedError(f"{type(self).__name__} draws nothing")
