"""A conditional GAN whose discriminator alone sees images, under noise; the generator is shared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mucald import optimisers, randomness
from mucald.config.common import require
from mucald.federation.method import State
from mucald.methods.generative.algorithms.base import Algorithm, Learner, Samples, make_optimiser
from mucald.methods.generative.config import OptimiserConfig
from mucald.methods.generative.nets.cgan import CGAN
from mucald.privacy.dp.steps import PrivateStep
from mucald.state.checkpoint import load_optimiser_tensors, optimiser_tensors, with_prefix, without_prefix


class _CGANLearner(Learner):
    module: CGAN

    def __init__(self, module: CGAN, config: OptimiserConfig):
        super().__init__(module, ("generator",), config)
        # One optimiser each; both stay from round to round, as the networks do.
        self.optimiser = make_optimiser(module.discriminator, config)
        self._of_generator = make_optimiser(module.generator, config)

    def losses(self, samples: Samples, key: randomness.Key) -> Tensor:
        """Return the discriminator's losses on real samples."""
        return self.module.losses(samples.x, samples.labels, real=True)

    def private_step(
        self, samples: Samples, step: PrivateStep, noise_key: randomness.Key, key: randomness.Key, rate: float
    ) -> float:
        """Train the discriminator, whose gradient on real samples is noised, and then the generator."""
        count = len(samples)

        def losses(rows: Tensor) -> Tensor:
            return self.losses(samples.at(rows), key)

        def fooled() -> Tensor:
            return self._fake_losses(count, (*key, "fake"), real=False, train_generator=False).mean()

        loss = step.gradients(self.module.discriminator, losses, count, noise_key, extra=fooled)
        self._step(self.optimiser, rate)
        self._train_generator(count, key, rate)
        return loss

    def plain_step(self, samples: Samples, key: randomness.Key, rate: float, begun: State) -> float:
        """Train the discriminator on a mini-batch, and then the generator; return the former's real loss."""
        real = self.losses(samples, key).mean()
        fake = self._fake_losses(len(samples), (*key, "fake"), real=False, train_generator=False).mean()
        self.optimiser.zero_grad(set_to_none=True)
        (real + fake).backward()
        self._step(self.optimiser, rate)
        self._train_generator(len(samples), key, rate)
        return float(real.detach())

    def _train_generator(self, count: int, key: randomness.Key, rate: float) -> None:
        loss = self._fake_losses(count, (*key, "generator"), real=True, train_generator=True).mean()
        self._of_generator.zero_grad(set_to_none=True)
        gradients = torch.autograd.grad(loss, list(self.module.generator.parameters()))
        for parameter, gradient in zip(self.module.generator.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self._step(self._of_generator, rate)

    def _fake_losses(self, count: int, key: randomness.Key, real: bool, train_generator: bool) -> Tensor:
        # Classes evenly, for those of the site are its own affair.
        labels = torch.arange(count) % self.module.n_classes
        fakes = self.module.generate(labels, randomness.normal((count, self.module.latent), *key))
        return self.module.losses(fakes if train_generator else fakes.detach(), labels, real)

    @staticmethod
    def _step(optimiser: torch.optim.Optimizer, rate: float) -> None:
        optimisers.scale_rates(optimiser, rate)
        optimiser.step()

    def state(self) -> State:
        """Return everything that a checkpoint holds."""
        return super().state() | with_prefix("generator_optimiser", optimiser_tensors(self._of_generator))

    def load_state(self, tensors: State) -> None:
        """Restore what :meth:`state` returned."""
        super().load_state(tensors)
        load_optimiser_tensors(self._of_generator, without_prefix("generator_optimiser", tensors))


@dataclass(frozen=True)
class ConditionalGAN(Algorithm):
    """DP-CGAN (Torkzadehmahani et al., CVPR-W 2019) that goes on from round to round.

    Args:
        hidden: widths of the layers between.
        latent: numbers that the generator is given.
    """

    hidden: tuple[int, ...] = (64,)
    latent: int = 16

    part: ClassVar[str] = "decoder"
    loss: ClassVar[str] = "generation"
    serves: ClassVar[Literal["generator"]] = "generator"

    def __post_init__(self) -> None:
        require(min((*self.hidden, self.latent)) >= 1, "hidden and latent must be at least 1")

    def learner(
        self, dimension: int, n_classes: int, hidden: Sequence[int], config: OptimiserConfig
    ) -> Learner:
        """Build generator and discriminator; ``hidden`` is of classifiers."""
        return _CGANLearner(CGAN(dimension, n_classes, self.hidden, self.latent), config)

    @torch.no_grad()
    def sample(self, learner: Learner, labels: Tensor, key: randomness.Key) -> Tensor:
        """Generate embeddings."""
        cgan = learner.module
        assert isinstance(cgan, CGAN)
        return cgan.generate(labels, randomness.normal((len(labels), cgan.latent), *key, "latent"))
