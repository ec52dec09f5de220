"""What the denoiser learns from: losses that need no clean latent, and the supervised ones for comparison.

Whoever holds x_t and any of ε, x0 or v computes the clean latent in one line. ``sure`` and ``ambient`` need
x_t and its level alone, so a site may release x_t and keep the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from mucald.errors import ConfigError
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.randomness import Key, generator, normal, signs

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Maps (x_t, t) to x̂0. It should compute all that depends on x_t, the causal variables included, from its
argument, as ``CRDM.estimator`` does: what it holds fixed is missing from the divergence in ``sure``."""

PROBE_STEP = 1e-2
"""Step of the finite difference, in units of x_t, whose variance is near 1. Its error (1e-4) is a hundredth
of the spread between probes and it bears reduced precision; the exact divergence by double backward takes
1.0 to 1.2 times as long."""


@dataclass(frozen=True)
class Observation:
    """A noised latent and what the server knows about it.

    Args:
        x_t: noised latent (B, C, H, W).
        t: level of each sample, int64 (B,).
        noise: ε (B, C, H, W), for the loss ``epsilon`` alone. It gives the clean latent away.
    """

    x_t: Tensor
    t: Tensor
    noise: Tensor | None = None

    def estimated_by(self, denoise: Denoise) -> Tensor:
        """Return x̂0; no gradient reaches ``x_t``."""
        return denoise(self.x_t.detach(), self.t)


def sure(denoise: Denoise, observation: Observation, schedule: CosineSchedule, key: Key) -> Tensor:
    """Return Stein's unbiased estimate of the mean squared error of x̂0, from x_t alone.

    With y = x_t/√ᾱ = x0 + σn and σ² = 1/SNR it is mean((x̂0 − y)²) − σ² + 2σ²·div_y(x̂0)/n (Stein, 1981;
    Metzler et al., arXiv 1805.10531), the divergence by one Rademacher probe (Ramani et al., 2008).
    It may be negative; its mean is the error.
    """
    x_t = observation.x_t.detach()
    estimate = observation.estimated_by(denoise)
    probe = signs(tuple(x_t.shape), *key, "probe", device=x_t.device)
    moved = denoise(torch.add(x_t, probe, alpha=PROBE_STEP), observation.t)
    signal, spread = schedule.scales(observation.t, x_t)
    variance = (spread / signal).square()
    divergence = signal * probe * (moved - estimate) / PROBE_STEP
    return ((estimate - x_t / signal).square() + variance * (2 * divergence - 1)).mean()


def ambient(denoise: Denoise, observation: Observation, schedule: CosineSchedule, key: Key) -> Tensor:
    """Return the error of undoing noise that the server added itself, from level t to a random level s > t.

    Noisier2Noise (Moran et al., 2020) at the levels of a diffusion (Daras et al., "Consistent Diffusion Meets
    Tweedie", 2024): x̂0(x_s, s) is right when the posterior mean that it implies predicts x_t. It is the
    supervised loss at level s up to a factor and a constant; the level t itself is never trained.

    Raises:
        ConfigError: t is the last level, beyond which no noise can be added.
    """
    x_t, t = observation.x_t.detach(), observation.t
    if int(t.max()) >= schedule.timesteps - 1:
        raise ConfigError(f"supervision ambient: t_release must be below {schedule.timesteps - 1}")
    levels = generator(*key, "level").integers(t.cpu().numpy() + 1, schedule.timesteps)
    s = torch.from_numpy(levels).to(t.device)
    noise = normal(tuple(x_t.shape), *key, "noise", device=x_t.device)
    x_s = schedule.renoised(x_t, t, s, noise)
    return mse_loss(schedule.posterior_mean(denoise(x_s, s), x_s, t, s), x_t)


def epsilon(denoise: Denoise, observation: Observation, schedule: CosineSchedule, key: Key) -> Tensor:  # noqa: ARG001
    """Return the mean squared error of ε̂ = (x_t − √ᾱ x̂0)/√(1 − ᾱ), the paper's loss.

    Ho et al., "DDPM" (2020), eq. 14. For comparison only: the server must know ε and can compute the clean
    latent exactly.

    Raises:
        ConfigError: the observation comes without its noise.
    """
    if observation.noise is None:
        raise ConfigError(
            "supervision epsilon: needs the noise of the release; choose sure or ambient instead"
        )
    signal, spread = schedule.scales(observation.t, observation.x_t)
    estimate = observation.estimated_by(denoise)
    return mse_loss((observation.x_t.detach() - signal * estimate) / spread, observation.noise)


def supervised(denoise: Denoise, observation: Observation, x0: Tensor) -> Tensor:
    """Return the mean squared error of x̂0 where the denoiser's side owns the clean latent, as at CRDM-2.

    x0 is a constant here: the denoiser approaches the features, not the features the denoiser.
    """
    return mse_loss(observation.estimated_by(denoise), x0.detach())


SUPERVISION: dict[str, Callable[[Denoise, Observation, CosineSchedule, Key], Tensor]] = {
    "sure": sure,
    "ambient": ambient,
    "epsilon": epsilon,
}
"""The losses by the names that a job's configuration uses."""
