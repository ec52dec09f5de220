"""The exogenous encoder: what a latent says about each causal node that no other node explains."""

import torch
from torch import Tensor, nn

from mucald.errors import ConfigError

GROUPS = 8
LOGVAR_LIMIT = 10.0
"""Largest absolute log-variance: a standard deviation between 1/148 and 148."""


def sample(mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """Return u = mu + exp(logvar / 2) · noise (Kingma & Welling, 2014); all (B, n_nodes)."""
    return torch.addcmul(mu, torch.exp(0.5 * logvar), noise)


class ExogenousEncoder(nn.Module):
    """Infers the exogenous variables u, one per node, from a latent (MuCALD-SplitFed, arXiv 2605.04108).

    The 1x1 convolution heads followed by global average pooling are applied in the other order, as a linear
    layer on pooled features: both are linear, so the result is the same at 1/(H·W) of the cost.

    Args:
        channels: channels of the latent.
        n_nodes: nodes of the causal graph.
        width: features of the trunk, a multiple of 8.

    Raises:
        ConfigError: ``width`` is not a multiple of 8.
    """

    def __init__(self, channels: int, n_nodes: int, width: int = 64):
        super().__init__()
        if width % GROUPS:
            raise ConfigError(f"exogenous width: must be a multiple of {GROUPS}, not {width}")
        self.n_nodes = n_nodes
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, width),
            nn.SiLU(),
        )
        self.heads = nn.Linear(width, 2 * n_nodes)

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of u, each (B, n_nodes), for a latent (B, channels, H, W)."""
        mu, logvar = self.heads(self.trunk(latent).mean((2, 3))).chunk(2, dim=1)
        return mu, logvar.clamp(-LOGVAR_LIMIT, LOGVAR_LIMIT)
