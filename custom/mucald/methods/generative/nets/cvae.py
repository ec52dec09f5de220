"""A conditional variational autoencoder of embeddings (Sohn et al., NeurIPS 2015)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mucald.methods.generative.nets.layers import chain, with_class


class CVAE(nn.Module):
    """Encoder q(z | x, y) and decoder p(x | z, y) = N(decoder(z, y), v I).

    The loss of a sample is its negative evidence lower bound times v / D:
    ½ mean_d (x − x̂)² + (v / D) KL(q ‖ N(0, I)). With the variance v of the decoder stated, no weight of the
    KL term remains to be chosen; the paper's code sums that term over the batch beside a mean over it, which
    makes it so large that the decoder forgets z.

    Args:
        dimension: numbers D of an embedding.
        n_classes: classes K.
        hidden: widths of the layers between, in encoder and reversed in decoder; none makes both linear.
        latent: numbers of z.
        variance: v > 0.
    """

    def __init__(self, dimension: int, n_classes: int, hidden: Sequence[int], latent: int, variance: float):
        super().__init__()
        self.dimension, self.n_classes, self.latent = dimension, n_classes, latent
        self.variance = variance
        self.encoder = chain(dimension + n_classes, hidden, 2 * latent)
        self.decoder = chain(latent + n_classes, tuple(reversed(hidden)), dimension)

    def losses(self, x: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        """Return the loss of every sample (B,).

        Args:
            x: embeddings (B, D).
            labels: classes (B,).
            noise: standard normal numbers (B, latent), by which z is drawn.
        """
        mean, log_variance = self.encoder(with_class(x, labels, self.n_classes)).chunk(2, dim=1)
        # Bounded, since one sample far out must not make a number that is none.
        log_variance = log_variance.clamp(-10, 10)
        z = mean + (0.5 * log_variance).exp() * noise
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        squares = (x - self.decoder(with_class(z, labels, self.n_classes))).square().mean(dim=1)
        return 0.5 * squares + self.variance / x.shape[1] * kl

    @torch.no_grad()
    def sample(self, labels: Tensor, noise: Tensor, observation: Tensor) -> Tensor:
        """Return embeddings (B, D) of classes (B,).

        Args:
            labels: classes.
            noise: standard normal numbers (B, latent), which are z.
            observation: standard normal numbers (B, D), the decoder's own noise.
        """
        return self.decoder(with_class(noise, labels, self.n_classes)) + self.variance**0.5 * observation
