"""Inversion without the front end: a substitute whose latents are distributed as those that crossed.

After Xu et al., "A Stealthy Wrongdoer: Feature-Oriented Reconstruction Attack against Split Learning" (FORA;
CVPR 2024, arXiv 2405.04115): the attacker trains a front end of its own on auxiliary images until its noised
latents cannot be told from the recorded ones, by a discriminator and by their moments, and then a decoder on
pairs that the substitute makes.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mucald import optimisers, randomness
from mucald.nets import backbone_of
from mucald_studies.attacks.decoder import picture, train_decoder
from mucald_studies.attacks.harness.base import Knowledge, Pictures, attack
from mucald_studies.attacks.harness.networks import Critic
from mucald_studies.attacks.harness.view import View

STEPS = 600
MOMENTS_WEIGHT = 10.0
RATE = 1e-3
ROUNDS = 2


@attack("decoder.auxiliary", Knowledge.AUXILIARY)
def substitute_front_end(view: View) -> Pictures:
    """Reconstruct the test images with images of the same kind, the architecture, and what crossed alone."""
    images = view.auxiliary().inputs
    sent = view.released("test")
    recorded = torch.cat([view.released("train", ROUNDS).values, sent.values])
    substitute = train_substitute(view, images, recorded)
    with torch.no_grad():
        latents = torch.cat([view.bounded(substitute(x)[0]) for x in images.split(32)])
    network, curve = train_decoder(view, latents, images, lambda x, key: view.noised(x, *key))
    return Pictures(picture(network, sent.values), "test", sent.rows, curve)


def train_substitute(view: View, images: Tensor, recorded: Tensor) -> nn.Module:
    """Train a front end whose noised latents look like ``recorded`` (N, L, h, w)."""
    with randomness.seeded_initialisation(*view.key("substitute")):
        front_end = backbone_of(view.config.network).front_end()
        critic = Critic(recorded.shape[1], view.budget.width, RATE)
    optimiser = optimisers.Adam(front_end.parameters(), lr=RATE, betas=(0.5, 0.99))
    wanted = [moment.detach() for moment in _moments(recorded)]
    for step in range(min(STEPS, view.budget.max_steps)):
        draws = randomness.generator(*view.key("substitute", step))
        real = recorded[draws.integers(len(recorded), size=view.budget.batch)]
        batch = images[draws.integers(len(images), size=view.budget.batch)]
        made = view.noised(view.bounded(front_end(batch)[0]), "substitute noise", step)
        critic.learn(real, made)
        loss = critic.doubt(made)
        moments = zip(_moments(made), wanted, strict=True)
        loss = loss + MOMENTS_WEIGHT * torch.stack([mse_loss(a, b) for a, b in moments]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return front_end.eval()


def _moments(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean latent (L, h, w) and the covariance of its channels (L, L)."""
    columns = latents.movedim(1, 0).flatten(1)
    centred = columns - columns.mean(dim=1, keepdim=True)
    return latents.mean(dim=0), centred @ centred.T / columns.shape[1]
