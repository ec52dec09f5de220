"""Hijacking: a server that does not follow the protocol trains the site's front end to its own end.

After Pasquini, Ateniese & Bernaschi, "Unleashing the Tiger: Inference Attacks on Split Learning" (FSHA; CCS
2021): the gradients that the server returns do not serve the task. They drag the site's latents into the
space of a pilot encoder that the attacker has trained, with its decoder, on images of its own.
"""

from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from mucald import randomness
from mucald.nets import backbone_of
from mucald.privacy.attacks.base import Attack, Knowledge, Pictures
from mucald.privacy.attacks.decoder import picture
from mucald.privacy.attacks.fitting import Budget
from mucald.privacy.attacks.networks import ConvolutionalProbe, PictureDecoder, seeded
from mucald.privacy.attacks.traffic import sample_order
from mucald.privacy.attacks.view import View
from mucald.split.link import server_payload_types
from mucald.split.messages import Field, Kind, Message, Phase, decode

RATE = 1e-3
PILOT_STEPS = 2
# The site bounds the gradient's norm and AdamW its size; this drowns the site's own loss.
GAIN = 1e3


class Hijack(Attack):
    """An active server takes a site over from its first step on, in place of the recorded run.

    It asks for as many rounds as its budget of steps fills: no site counts them. The site is the real one,
    with its release, its clipping of gradients and its optimiser.
    """

    name = "hijack"
    knowledge = frozenset({Knowledge.CONTROL, Knowledge.AUXILIARY})

    def run(self, view: View, budget: Budget) -> Pictures:
        """Train the site and reconstruct the training images from its last epoch's releases."""
        with TemporaryDirectory() as folder:
            site = view.driven(Path(folder))
            server = _MaliciousServer(view, budget)
            training = view.config.training
            steps = training.local_epochs * ceil(site.n_train / training.batch_size)
            rounds = max(1, budget.max_steps // steps)
            for number in range(rounds):
                server.released.clear()
                site.train(server.answer, number)
        latents = torch.cat(server.released)
        rows, epochs = sample_order(view.config, view.site, rounds - 1, len(latents))
        last = epochs == epochs.max()
        return Pictures(picture(server.decoder.eval(), latents[last]), "train", rows[last], server.curve())


class _MaliciousServer:
    """Answers a site's messages with what serves the attacker."""

    def __init__(self, view: View, budget: Budget):
        self._view, self._budget, self._images = view, budget, view.auxiliary().images
        self._types = server_payload_types(view.config.wire)
        shape = backbone_of(view.config.network).latent_shape(view.config.data.image_size)
        with seeded(*view.key("pilot")):
            self._pilot = backbone_of(view.config.network).front_end()
            self.decoder = PictureDecoder(shape, self._images.shape[-1], 3, budget.width)
            self._critic = ConvolutionalProbe(shape[0], 1, budget.width)
        pilot = [*self._pilot.parameters(), *self.decoder.parameters()]
        self._pilot_optimiser = torch.optim.Adam(pilot, lr=RATE)
        self._critic_optimiser = torch.optim.Adam(self._critic.parameters(), lr=RATE, betas=(0.5, 0.99))
        self._step = 0
        self._losses: list[tuple[int, float]] = []
        self.released: list[Tensor] = []

    def curve(self) -> tuple[tuple[int, float], ...]:
        """Return (step, the pilot's own reconstruction error)."""
        return tuple(self._losses)

    def answer(self, request: bytes) -> bytes:
        """Answer one message."""
        message = decode(request)
        fields = {}
        if message.phase is Phase.REPORT:
            fields[Field.COUNTERS] = torch.zeros(1, dtype=torch.float64)
        elif message.phase is Phase.TRAIN_BACKWARD:
            fields[Field.LATENT_GRADIENT] = self._drag(self.released[-1])
        else:
            latent = message.fields[Field.LATENT]
            if message.phase in (Phase.TRAIN_FORWARD, Phase.TRAIN_FORWARD_WITH_NOISE):
                self.released.append(latent)
            fields[Field.FEATURES] = torch.zeros_like(latent)
        return Message(Kind.REPLY, message.phase, message.round, message.step, fields).encode(self._types)

    def _drag(self, latent: Tensor) -> Tensor:
        """Train pilot, decoder, critic; return the gradient that makes ``latent`` look like a pilot's."""
        self._step += 1
        for turn in range(PILOT_STEPS):
            made, loss = self._pilot_pass(turn)
            self._pilot_optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._pilot_optimiser.step()
        if self._step % self._budget.interval == 0:
            self._losses.append((self._step, loss.item()))
        told_pilot, told_site = self._critic(made.detach()), self._critic(latent)
        loss = binary_cross_entropy_with_logits(told_pilot, torch.ones_like(told_pilot))
        loss = loss + binary_cross_entropy_with_logits(told_site, torch.zeros_like(told_site))
        self._critic_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._critic_optimiser.step()
        x = latent.detach().requires_grad_()
        told = self._critic(x)
        (gradient,) = torch.autograd.grad(binary_cross_entropy_with_logits(told, torch.ones_like(told)), x)
        return GAIN * gradient

    def _pilot_pass(self, turn: int) -> tuple[Tensor, Tensor]:
        """Return the pilot's noised latents of a batch, and how badly the decoder reads them."""
        view = self._view
        draws = randomness.generator(*view.key("pilot", self._step, turn))
        batch = self._images[draws.integers(len(self._images), size=self._budget.batch)]
        latents = view.bounded(self._pilot(batch)[0])
        made = view.noised(latents, "pilot noise", self._step, turn)
        return made, mse_loss(self.decoder(made).sigmoid(), batch)
