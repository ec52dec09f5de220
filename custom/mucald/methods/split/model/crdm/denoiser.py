"""The conditional denoiser: the clean latent from a noised one, its level, and the causal variables."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from mucald.errors import ConfigError
from mucald.methods.split.model.crdm.schedule import CosineSchedule

GROUPS = 8
MAX_PERIOD = 1e4


def timestep_embedding(t: Tensor, size: int) -> Tensor:
    """Return the sinusoidal embedding (B, size) of levels t (B,): cosines, then sines.

    Ho et al., "DDPM" (2020), after Vaswani et al. (2017), §3.5.
    """
    half = size // 2
    frequencies = torch.exp(torch.arange(half, device=t.device) * (-math.log(MAX_PERIOD) / half))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class FiLMBlock(nn.Module):
    """Convolution, group normalisation, scale and shift by the condition, SiLU (Perez et al., "FiLM", 2018).

    Args:
        width: features, in and out.
        condition: size of the condition vector.
    """

    def __init__(self, width: int, condition: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, width)
        self.film = nn.Linear(condition, 2 * width)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Return features (B, width, H, W) for features h of that shape and conditions c (B, condition)."""
        gamma, beta = self.film(c)[:, :, None, None].chunk(2, dim=1)
        return silu(torch.addcmul(beta, self.norm(self.conv(h)), 1 + gamma))


class ConditionalDenoiser(nn.Module):
    """Estimates the clean latent x̂0 from x_t, t and the causal variables z (arXiv 2605.04108).

    The paper's network predicts ε, so that x̂0 = (x_t − √(1−ᾱ) ε̂) / √ᾱ multiplies an error by up to 8 116.
    Here it predicts v (Salimans & Ho, "Progressive Distillation", 2022, §4: x̂0 = √ᾱ x_t − √(1−ᾱ) v̂), which
    has a gain of at most 1 at every level.

    Args:
        channels: channels of the latent.
        n_nodes: causal variables that condition it; 0 for none.
        schedule: the schedule that x_t was noised with.
        width: features, a multiple of 8; also the size of the condition.
        embedding: size of the embedding of t, even.

    Raises:
        ConfigError: a width that is not a multiple of 8, or an odd embedding.
    """

    def __init__(
        self,
        channels: int,
        n_nodes: int,
        schedule: CosineSchedule,
        width: int = 128,
        embedding: int = 64,
    ):
        super().__init__()
        if width % GROUPS or embedding % 2:
            raise ConfigError(
                f"denoiser: width must be a multiple of {GROUPS}, embedding even, not {width} and {embedding}"
            )
        self.n_nodes = n_nodes
        self.schedule = schedule
        self.embedding = embedding
        self.condition = nn.Sequential(
            nn.Linear(n_nodes + embedding, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList([FiLMBlock(width, width), FiLMBlock(width, width)])
        self.conv_out = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor, z: Tensor | None = None) -> Tensor:
        """Return x̂0 (B, channels, H, W).

        Args:
            x_t: noised latent (B, channels, H, W).
            t: level of each sample, int64 (B,).
            z: causal variables (B, n_nodes); not needed for a denoiser of 0 nodes.

        Raises:
            ConfigError: the number of causal variables is not ``n_nodes``.
        """
        n_given = 0 if z is None else z.shape[1]
        if n_given != self.n_nodes:
            raise ConfigError(f"denoiser: built for {self.n_nodes} causal variables, got {n_given}")
        embedded = timestep_embedding(t, self.embedding).to(x_t.dtype)
        c = self.condition(embedded if z is None else torch.cat([z, embedded], dim=1))
        h = self.conv_in(x_t)
        for block in self.blocks:
            h = block(h, c)
        signal, spread = self.schedule.scales(t, x_t)
        return torch.addcmul(signal * x_t, spread, self.conv_out(h), value=-1)
