"""The noise schedule shared by sites and server (forward diffusion before both CRDMs)."""

import math

import numpy as np
import torch
from torch import Tensor

from mucald.errors import ConfigError

BETA_MIN = 1e-8
BETA_MAX = 0.999


class CosineSchedule:
    """The cosine schedule of Nichol & Dhariwal, "Improved DDPM" (2021), eq. 17.

    Tables are computed in float64, because ᾱ ends near 1.5e-8; look-ups return float32.
    Levels are 0-indexed: level 0 holds the first, least noise; level ``timesteps - 1`` is almost pure noise.

    Args:
        timesteps: number of levels T.
        s: offset that keeps the first steps from being too small.

    Raises:
        ConfigError: fewer than two levels, or a negative offset.
    """

    def __init__(self, timesteps: int = 400, s: float = 0.008):
        if timesteps < 2 or s < 0:
            raise ConfigError(f"schedule: needs timesteps >= 2 and s >= 0, not {timesteps} and {s}")
        self.timesteps = timesteps
        signal = np.cos((np.arange(timesteps + 1) / timesteps + s) / (1 + s) * math.pi / 2) ** 2
        betas = np.clip(1 - signal[1:] / signal[:-1], BETA_MIN, BETA_MAX)
        self._alpha_bar = torch.from_numpy(np.cumprod(1 - betas))

    def alpha_bar(self, t: Tensor | int) -> Tensor:
        """Return ᾱ_t, the share of the signal in the variance of x_t; float32, the shape of ``t``."""
        return self._lookup(t).float()

    def snr(self, t: Tensor | int) -> Tensor:
        """Return the signal-to-noise ratio ᾱ_t / (1 − ᾱ_t); float32, the shape of ``t``."""
        alpha_bar = self._lookup(t)
        return (alpha_bar / (1 - alpha_bar)).float()

    def scales(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return (√ᾱ_t, √(1 − ᾱ_t)), each (B, 1, ..., 1) so that it broadcasts against ``like`` (B, ...)."""
        alpha_bar = self._column(t, like)
        return alpha_bar.sqrt().to(like.dtype), (1 - alpha_bar).sqrt().to(like.dtype)

    def noised(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return x_t = √ᾱ_t x + √(1 − ᾱ_t) ε (Ho et al., "DDPM", 2020, eq. 4).

        Args:
            x: clean latent (B, ...).
            t: level of each sample, int64 (B,).
            noise: ε, standard normal, the shape of ``x``.
        """
        signal, spread = self.scales(t, x)
        return torch.addcmul(signal * x, spread, noise)

    def renoised(self, x_t: Tensor, t: Tensor, s: Tensor, noise: Tensor) -> Tensor:
        """Return x_s = √(ᾱ_s/ᾱ_t) x_t + √(1 − ᾱ_s/ᾱ_t) ε', the same latent at a noisier level s > t.

        Args:
            x_t: noised latent (B, ...).
            t: its level, int64 (B,).
            s: the level to go to, int64 (B,).
            noise: ε', standard normal and independent of x_t, the shape of ``x_t``.
        """
        ratio = self._column(s, x_t) / self._column(t, x_t)
        return torch.addcmul(ratio.sqrt().to(x_t.dtype) * x_t, (1 - ratio).sqrt().to(x_t.dtype), noise)

    def posterior_mean(self, x0: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Return the mean of q(x_t | x_s, x0) for t < s (Ho et al., 2020, eq. 7, with s in place of t + 1).

        Args:
            x0: clean latent or its estimate (B, ...).
            x_s: latent at the noisier level, the shape of ``x0``.
            t: level asked for, int64 (B,).
            s: level of ``x_s``, int64 (B,).
        """
        at_t, at_s = self._column(t, x0), self._column(s, x0)
        ratio = at_s / at_t
        of_x0 = at_t.sqrt() * (1 - ratio) / (1 - at_s)
        of_x_s = ratio.sqrt() * (1 - at_t) / (1 - at_s)
        return torch.addcmul(of_x0.to(x0.dtype) * x0, of_x_s.to(x0.dtype), x_s)

    def _column(self, t: Tensor, like: Tensor) -> Tensor:
        return self._lookup(t).to(like.device).view(-1, *[1] * (like.ndim - 1))

    def _lookup(self, t: Tensor | int) -> Tensor:
        levels = torch.as_tensor(t)
        if levels.is_floating_point() or not bool(((levels >= 0) & (levels < self.timesteps)).all()):
            raise ConfigError(f"t: must be integers from 0 to {self.timesteps - 1}, not {levels.tolist()}")
        return self._alpha_bar[levels.cpu()].to(levels.device)
