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
from torch.nn.functional import mse_loss

from mucald import optimisers, randomness
from mucald.methods.split.wire.messages import Field, Kind, Message, Phase, decode, payload_types
from mucald.nets import backbone_of
from mucald_studies.attacks.decoder import picture
from mucald_studies.attacks.harness.base import Knowledge, Pictures, attack
from mucald_studies.attacks.harness.networks import Critic, PictureDecoder
from mucald_studies.attacks.harness.traffic import sample_order
from mucald_studies.attacks.harness.view import View

RATE = 1e-3
PILOT_STEPS = 2
# The site bounds the gradient's norm and AdamW its size; this drowns the site's own loss.
GAIN = 1e3
_TRAINING = (Phase.TRAIN_FORWARD, Phase.TRAIN_FORWARD_WITH_NOISE, Phase.RELEASE)


@attack("hijack", Knowledge.CONTROL, Knowledge.AUXILIARY)
def hijack(view: View) -> Pictures:
    """Take a site over from its first step on, and reconstruct its images from its last epoch's releases.

    The server asks for as many rounds as its budget of steps fills: no site counts them. The site is the real
    one, with its release, its clipping of gradients and its optimiser. A site that releases every image once
    has frozen its front end before the server's first word, so the same attack has nothing to pull at; it is
    made all the same, to show it.
    """
    with TemporaryDirectory() as folder:
        site = view.driven(Path(folder))
        server = _MaliciousServer(view)
        training = view.config.training
        steps = training.local_epochs * ceil(site.n_train / training.batch_size)
        rounds = max(1, view.budget.max_steps // steps)
        for number in range(rounds):
            server.begin_round()
            site.train(server.answer, number)
    latents = torch.cat(server.released)
    if server.once:
        rows = torch.arange(len(latents))
    else:
        rows, epochs = sample_order(view.config, view.site, rounds - 1, len(latents))
        last = epochs == epochs.max()
        latents, rows = latents[last], rows[last]
    return Pictures(picture(server.decoder.eval(), latents), "train", rows, tuple(server.losses))


class _MaliciousServer:
    """Answers a site's messages with what serves the attacker."""

    def __init__(self, view: View):
        self._view, self._images = view, view.auxiliary().inputs
        self._types = payload_types(view.config.wire)
        self.once = view.config.release.mode == "once"
        self._sender = (view.config.seed, view.site)
        shape = backbone_of(view.config.network).latent_shape(view.config.data.image_size)
        self._shape = shape
        with randomness.seeded_initialisation(*view.key("pilot")):
            self._pilot = backbone_of(view.config.network).front_end()
            self.decoder = PictureDecoder(shape, self._images.shape[-1], 3, view.budget.width)
            self._critic = Critic(shape[0], view.budget.width, RATE)
        pilot = [*self._pilot.parameters(), *self.decoder.parameters()]
        self._pilot_optimiser = optimisers.Adam(pilot, lr=RATE)
        self._step = 0
        # (step, the pilot's own reconstruction error)
        self.losses: list[tuple[int, float]] = []
        self.released: list[Tensor] = []
        self._current = torch.empty(0)

    def begin_round(self) -> None:
        """Forget the last round's releases, unless there are no others."""
        if not self.once:
            self.released.clear()

    def answer(self, request: bytes) -> bytes:
        """Answer one message."""
        message = decode(request)
        fields = self._fields(message.phase, message.fields)
        reply = Message(Kind.REPLY, message.phase, message.round, message.step, fields)
        return reply.encode(self._types, self._sender)

    def _fields(self, phase: Phase, asked: dict[Field, Tensor]) -> dict[Field, Tensor]:
        if phase is Phase.REPORT:
            return {Field.COUNTERS: torch.zeros(1, dtype=torch.float64)}
        if phase is Phase.TRAIN_BACKWARD:
            return {Field.LATENT_GRADIENT: self._drag(self._current)}
        if phase is Phase.TRAIN_BACKWARD_RELEASED:
            # No field of this reply could carry the gradient.
            self._drag(self._current)
            return {}
        if phase is Phase.VALIDATE_RELEASED:
            return {Field.FEATURES: torch.zeros(len(asked[Field.INDICES]), *self._shape)}
        if phase is Phase.TRAIN_FORWARD_RELEASED:
            self._current = torch.cat(self.released)[asked[Field.INDICES].long()]
        else:
            self._current = asked[Field.LATENT]
        if phase in _TRAINING:
            self.released.append(self._current)
        return {} if phase is Phase.RELEASE else {Field.FEATURES: torch.zeros_like(self._current)}

    def _drag(self, latent: Tensor) -> Tensor:
        """Train pilot, decoder, critic; return the gradient that makes ``latent`` look like a pilot's."""
        self._step += 1
        for turn in range(PILOT_STEPS):
            made, loss = self._pilot_pass(turn)
            self._pilot_optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._pilot_optimiser.step()
        if self._step % self._view.budget.interval == 0:
            self.losses.append((self._step, loss.item()))
        self._critic.learn(made.detach(), latent)
        x = latent.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self._critic.doubt(x), x)
        return GAIN * gradient

    def _pilot_pass(self, turn: int) -> tuple[Tensor, Tensor]:
        """Return the pilot's noised latents of a batch, and how badly the decoder reads them."""
        view = self._view
        draws = randomness.generator(*view.key("pilot", self._step, turn))
        batch = self._images[draws.integers(len(self._images), size=view.budget.batch)]
        latents = view.bounded(self._pilot(batch)[0])
        made = view.noised(latents, "pilot noise", self._step, turn)
        return made, mse_loss(self.decoder(made).sigmoid(), batch)
