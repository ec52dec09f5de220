"""The cheap rival: a Gaussian of each class, whose sums every site releases once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mucald import randomness
from mucald.federation.method import State
from mucald.methods.generative.algorithms.base import Algorithm, Learner, Samples
from mucald.methods.generative.config import OptimiserConfig
from mucald.privacy.dp.steps import PrivateStep

COUNT, SUM, SQUARE = 0.3, 0.9, 0.3
"""How much of a sample's norm of 1 its count, its sum and its square get: √(.3² + .9² + .3²) is .995."""
_FEWEST = 0.02


class Statistics(nn.Module):
    """Sums over samples u = x / √k of norm 1: of each class how many and Σ u, of all Σ u uᵀ.

    Each is multiplied by its share, so that one sample moves all together by less than 1. ``noise`` is the
    variance of the noise on every number.
    """

    counts: Tensor
    sums: Tensor
    squares: Tensor
    noise: Tensor

    def __init__(self, dimension: int, n_classes: int):
        super().__init__()
        self.register_buffer("counts", torch.zeros(n_classes))
        self.register_buffer("sums", torch.zeros(n_classes, dimension))
        self.register_buffer("squares", torch.zeros(dimension, dimension))
        self.register_buffer("noise", torch.zeros(1))

    def parts(self) -> State:
        """Return the sums by name, without the noise's variance."""
        return {name: getattr(self, name) for name in ("counts", "sums", "squares")}

    @torch.no_grad()
    def add(self, samples: Samples) -> None:
        """Add the sums over samples of norm √k."""
        u = samples.x / samples.x.shape[1] ** 0.5
        classes = F.one_hot(samples.labels, len(self.counts)).to(u.dtype)
        self.counts += COUNT * classes.sum(dim=0)
        self.sums += SUM * classes.T @ u
        self.squares += SQUARE * u.T @ u

    def gaussians(self) -> tuple[Tensor, Tensor]:
        """Return means (K, k) and a root (k, k) of the covariance that all classes have, of u.

        What the noise alone would explain is taken out: means are drawn to the mean of all, and the
        covariance to a multiple of I, by the share of their spread that is noise (James & Stein, 1961). The
        trace needs no noise, since every u has norm 1.
        """
        variance, k = float(self.noise), self.sums.shape[1]
        counts = self.counts / COUNT
        total = counts.sum().clamp(min=1)
        counts = counts.clamp(min=_FEWEST * float(total))
        shares = counts / counts.sum()
        raw = self.sums / SUM / counts[:, None]
        centre = self.sums.sum(dim=0) / SUM / total
        spread = (raw - centre).square().sum(dim=1)
        of_noise = k * variance / SUM**2 / counts.square()
        means = centre + (1 - of_noise / spread.clamp(min=1e-12)).clamp(min=0)[:, None] * (raw - centre)
        level = (1 - (shares * means.square().sum(dim=1)).sum()).clamp(min=0.05) / k
        within = self.squares / SQUARE / total - (means * shares[:, None]).T @ means
        within = (within + within.T) / 2
        apart = within - torch.eye(k) * within.diagonal().mean()
        noise_energy = k * k / 2 * variance / SQUARE**2 / total**2
        kept = (1 - noise_energy / apart.square().sum().clamp(min=1e-12)).clamp(min=0)
        values, vectors = torch.linalg.eigh(torch.eye(k) * level + kept * apart)
        return means, vectors * values.clamp(min=0.05 * float(level)).sqrt()


class _StatisticsLearner(Learner):
    module: Statistics

    def __init__(self, module: Statistics):
        self.module = module

    def losses(self, samples: Samples, key: randomness.Key) -> Tensor:
        """Return zeros: there is nothing to minimise."""
        return torch.zeros(len(samples))

    def private_step(
        self, samples: Samples, step: PrivateStep, noise_key: randomness.Key, key: randomness.Key, rate: float
    ) -> float:
        """Add noised sums over all samples; one sample moves them by less than 1."""
        self.module.add(samples)
        with torch.no_grad():
            for name, tensor in self.module.parts().items():
                noise = randomness.normal(tuple(tensor.shape), *noise_key, name)
                tensor += step.noise_multiplier * noise
            self.module.noise += step.noise_multiplier**2
        return 0.0

    def plain_step(self, samples: Samples, key: randomness.Key, rate: float, begun: State) -> float:
        """Add the sums over a mini-batch."""
        self.module.add(samples)
        return 0.0

    def shared(self) -> State:
        """Return all sums."""
        return dict(self.module.state_dict(keep_vars=True))

    def state(self) -> State:
        """Return all sums."""
        return self.shared()

    def load_state(self, tensors: State) -> None:
        """Restore what :meth:`state` returned."""
        self.module.load_state_dict(tensors)


@dataclass(frozen=True)
class ClassGaussians(Algorithm):
    """Class-conditional Gaussians of one covariance (cf. GH-OFL, arXiv 2602.01186), released in round 1.

    With noise it is one release, whatever the rounds and epochs planned.
    """

    part: ClassVar[str] = "class Gaussians"
    serves: ClassVar[Literal["generator"]] = "generator"
    once: ClassVar[bool] = True

    def learner(
        self, dimension: int, n_classes: int, hidden: Sequence[int], config: OptimiserConfig
    ) -> Learner:
        """Build empty sums."""
        return _StatisticsLearner(Statistics(dimension, n_classes))

    def combine(self, weights: State, changes: Sequence[State], sizes: Sequence[int]) -> State:
        """Return the sites' sums added up."""
        return {name: tensor + sum(change[name] for change in changes) for name, tensor in weights.items()}

    @torch.no_grad()
    def sample(self, learner: Learner, labels: Tensor, key: randomness.Key) -> Tensor:
        """Draw from the Gaussians."""
        assert isinstance(learner.module, Statistics)
        means, root = learner.module.gaussians()
        draws = randomness.normal((len(labels), means.shape[1]), *key, "observation")
        return (means[labels] + draws @ root.T) * means.shape[1] ** 0.5
