"""The algebra of a server that knows the noise: x = (x_t − √(1−ᾱ_t) ε) / √ᾱ_t.

Under ``epsilon`` supervision the site sends ε, and one line gives the clean latent. Without ε the best that
is known of a standardised latent without looking at images is the linear estimate √ᾱ_t x_t (Wiener, 1949).
"""

import torch

from mucald.methods.split.wire.messages import Field
from mucald_studies.attacks.harness.base import Latents, attack
from mucald_studies.attacks.harness.view import View


@attack("oracle")
def oracle(view: View) -> Latents:
    """Solve for the clean latents of the first round's training releases, with the noise if it crossed."""
    released = view.first_round(Field.LATENT)
    if not view.config.release.noised:
        return Latents(released)
    level = torch.full((len(released),), view.release_level, dtype=torch.int64)
    signal, spread = view.schedule.scales(level, released)
    if view.config.crdm.supervision == "epsilon" and view.config.crdm.denoiser:
        return Latents((released - spread * view.first_round(Field.NOISE)) / signal)
    return Latents(signal * released)
