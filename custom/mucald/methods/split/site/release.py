"""The release: all that happens to a latent and to proxies at the site before they leave.

A latent is standardised and clamped, so that a front end cannot out-shout the noise, and then diffused to one
level t with noise that only the site can know: x_t = √ᾱ_t x + √(1−ᾱ_t) ε (Ho et al. 2020, eq. 4; cosine
schedule of Nichol & Dhariwal 2021). Neither ε, nor what it is drawn from, nor x ever leaves.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from mucald import randomness
from mucald.methods.split.config import ReleaseConfig
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.nets.latent import bounded
from mucald.randomness import Key


@dataclass(frozen=True)
class Released:
    """What leaves, and what does not.

    Args:
        latent: x_t (B, L, h, w), differentiable with respect to the front end.
        level: t (B,), int32; 0 if nothing is noised.
        noise: ε (B, L, h, w), or None if nothing is noised. It stays at the site, except under ``epsilon``
            supervision, which exists to show that it then protects nothing.
    """

    latent: Tensor
    level: Tensor
    noise: Tensor | None


class Release:
    """Prepares tensors for leaving the site.

    Args:
        config: clip, level and proxy noise.
        secret: the site's own; the noise is unpredictable for whoever does not know it.
        site: name of the site.
    """

    def __init__(self, config: ReleaseConfig, secret: str, site: str):
        self.secret = secret
        self.config = config
        self._key = (secret, site)
        self._schedule = CosineSchedule(config.timesteps)

    def latent(self, latent: Tensor, *key: int | str) -> Released:
        """Release a clean latent.

        The noise is keyed by the latent itself besides ``key``: a repeated step of an unchanged network
        repeats its message to the bit, but no two different latents ever share their noise, whatever a server
        asks for. Two releases that share it would differ by a noise-free image of what changed. In ``once``
        the round does not count, so that whatever is sent again in a later one is still the same release.

        Args:
            latent: front end's output (B, L, h, w).
            key: names this release: (round, step, purpose).
        """
        bounded = self.bounded(latent)
        batch = latent.shape[0]
        if not self.config.noised:
            return Released(bounded, torch.zeros(batch, dtype=torch.int32), None)
        level = torch.full((batch,), self.config.t, dtype=torch.int64)
        noise = self._noise(bounded, key)
        return Released(self._schedule.noised(bounded, level, noise), level.to(torch.int32), noise)

    def _noise(self, bounded: Tensor, key: Key) -> Tensor:
        if self.config.mode == "once":
            key = key[1:]
        return randomness.normal(
            tuple(bounded.shape), *self._key, *key, _content(bounded), device=bounded.device
        )

    def bounded(self, latent: Tensor) -> Tensor:
        """Standardise and clamp a latent (B, L, h, w), see :func:`mucald.nets.latent.bounded`."""
        return bounded(latent, self.config.clip)

    def gradient(self, gradient: Tensor, *key: int | str) -> Tensor:
        """Release the loss's gradient with respect to the server's features, which depends on the labels.

        Every sample is scaled down to an L2 norm of at most ``gradient_clip`` and noised with
        ``gradient_noise_std`` times that (the Gaussian mechanism of Abadi et al., "Deep Learning with
        Differential Privacy", 2016, on activations in place of weights). Its noise is keyed like a latent's.

        Args:
            gradient: ∂L/∂x̂2 (B, L, h, w), as it would be sent.
            key: names this release.
        """
        clip, deviation = self.config.gradient_clip, self.config.gradient_noise_std
        if clip is None:
            return gradient
        norm = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True)
        bounded = gradient * (clip / norm).clamp(max=1)
        if deviation == 0:
            return bounded
        noise = randomness.normal(
            tuple(gradient.shape), *self._key, *key, "gradient", _content(bounded), device=gradient.device
        )
        return bounded + deviation * clip * noise

    def proxies(self, proxies: Tensor, *key: int | str) -> tuple[Tensor, Tensor]:
        """Release the z-scored proxies of a whole split, once for the run.

        A proxy does not change while the network learns, so the same noised value is sent in every epoch:
        unlike fresh draws, repeating it tells a listener nothing more. Like a latent's, the noise is keyed by
        the proxies themselves: one image more or less moves the z-scores of all, and under shared noise the
        difference of two runs would show by how much. A noised target leaves the gradient of a squared error
        unbiased.

        Args:
            proxies: (N, n), NaN where missing.
            key: names the split.

        Returns:
            the proxies with Gaussian noise of ``proxy_noise_std`` and 0 where missing, and the mask (N, n),
            uint8, 1 where present.
        """
        present = torch.isfinite(proxies)
        noise = randomness.normal(tuple(proxies.shape), *self._key, *key, "proxies", _content(proxies))
        noised = proxies + self.config.proxy_noise_std * noise
        return torch.where(present, noised, torch.zeros_like(noised)), present.to(torch.uint8)


def _content(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
