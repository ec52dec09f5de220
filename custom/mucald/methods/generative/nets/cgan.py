"""A conditional generative adversarial network of embeddings (Mirza & Osindero, 2014)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mucald.methods.generative.nets.layers import LEAK, chain, with_class


class CGAN(nn.Module):
    """Generator and discriminator, both given the class.

    Args:
        dimension: numbers D of an embedding.
        n_classes: classes K.
        hidden: widths of the layers between, in the generator and reversed in the discriminator.
        latent: numbers that the generator is given.
    """

    def __init__(self, dimension: int, n_classes: int, hidden: Sequence[int], latent: int):
        super().__init__()
        self.n_classes, self.latent, self.dimension = n_classes, latent, dimension
        self.generator = chain(latent + n_classes, hidden, dimension)
        self.discriminator = chain(dimension + n_classes, tuple(reversed(hidden)), 1, LEAK)

    def generate(self, labels: Tensor, noise: Tensor) -> Tensor:
        """Return embeddings (B, D) of classes (B,) from standard normal numbers (B, latent)."""
        return self.generator(with_class(noise, labels, self.n_classes))

    def losses(self, x: Tensor, labels: Tensor, real: bool) -> Tensor:
        """Return the cross-entropy (B,) of taking embeddings for real, or for generated ones."""
        scores = self.discriminator(with_class(x, labels, self.n_classes))[:, 0]
        return F.softplus(-scores if real else scores)
