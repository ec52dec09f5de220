"""A conditional autoencoder of which only the decoder is shared (Di Salvo et al., MICCAI 2025)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from mucald import randomness
from mucald.config.common import require
from mucald.methods.generative.algorithms.base import Algorithm, Learner, Samples
from mucald.methods.generative.config import OptimiserConfig
from mucald.methods.generative.nets.cvae import CVAE


class _CVAELearner(Learner):
    module: CVAE

    def losses(self, samples: Samples, key: randomness.Key) -> Tensor:
        """Return the negative evidence lower bounds, see :class:`.CVAE`."""
        noise = randomness.normal((len(samples), self.module.latent), *key, "latent")
        return self.module.losses(samples.x, samples.labels, noise)


@dataclass(frozen=True)
class ConditionalVAE(Algorithm):
    """See :class:`.CVAE`. Encoder and decoder train with one clip and one noise; the encoder stays.

    An encoder that trained without noise would carry the images into the decoder's gradients.

    Args:
        hidden: widths of the layers between; none makes it a linear model, which the least noise disturbs.
        latent: numbers of z.
        variance: of an embedding about what is decoded, in units of its mean square.
    """

    hidden: tuple[int, ...] = ()
    latent: int = 4
    variance: float = 0.5

    part: ClassVar[str] = "decoder"
    loss: ClassVar[str] = "generation"
    serves: ClassVar[Literal["generator"]] = "generator"

    def __post_init__(self) -> None:
        require(min((*self.hidden, self.latent)) >= 1, "hidden and latent must be at least 1")
        require(self.variance > 0, "variance must be positive")

    def learner(
        self,
        dimension: int,
        n_classes: int,
        hidden: Sequence[int],
        config: OptimiserConfig,
    ) -> Learner:
        """Build encoder and decoder; ``hidden`` is of classifiers."""
        cvae = CVAE(dimension, n_classes, self.hidden, self.latent, self.variance)
        return _CVAELearner(cvae, ("decoder",), config)

    def sample(self, learner: Learner, labels: Tensor, key: randomness.Key) -> Tensor:
        """Decode standard normal z."""
        cvae = learner.module
        assert isinstance(cvae, CVAE)
        noise = randomness.normal((len(labels), cvae.latent), *key, "latent")
        return cvae.sample(
            labels, noise, randomness.normal((len(labels), cvae.dimension), *key, "observation")
        )
