"""The latent between front end and middle network, bounded so that no front end can out-shout noise on it."""

from torch import Tensor

_EPSILON = 1e-6


def bounded(latent: Tensor, clip: float) -> Tensor:
    """Standardise every sample of a latent (B, L, h, w) to mean 0 and variance 1, then clamp to ±``clip``."""
    dims = (1, 2, 3)
    centred = latent - latent.mean(dim=dims, keepdim=True)
    deviation = centred.square().mean(dim=dims, keepdim=True).add(_EPSILON).sqrt()
    return (centred / deviation).clamp(-clip, clip)
