"""Inversion by a decoder: a network that learns to turn latents back into images.

After Titcombe et al., "Practical Defences Against Model Inversion Attacks for Split Neural Networks"
(arXiv 2104.05743): a decoder trained on pairs of images and what crosses for them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mucald import randomness
from mucald.errors import AttackError
from mucald_studies.attacks.harness.base import Knowledge, Pictures, attack
from mucald_studies.attacks.harness.fitting import Curve, fit
from mucald_studies.attacks.harness.networks import PictureDecoder
from mucald_studies.attacks.harness.traffic import Sent
from mucald_studies.attacks.harness.view import View

HELD_OUT = 0.125
LEAK_ROUNDS = 2

Prepare = Callable[[Tensor, tuple[int | str, ...]], Tensor]
"""Turns clean latents into what the decoder reads; the key names its noise."""


def train_decoder(view: View, inputs: Tensor, images: Tensor, prepare: Prepare) -> tuple[nn.Module, Curve]:
    """Train a decoder on pairs of latents (N, L, h, w) and the images (N, 3, S, S) behind them.

    The last eighth of them is held out; ``prepare`` is called on every batch, with new noise each time.
    """
    held = max(1, int(HELD_OUT * len(inputs)))
    known, held_images = len(inputs) - held, images[-held:]
    held_inputs = prepare(inputs[-held:], ("held out",))
    with randomness.seeded_initialisation(*view.key("decoder")):
        network = PictureDecoder(inputs.shape[1:], images.shape[-1], images.shape[1], view.budget.width)

    def loss(step: int) -> Tensor:
        draws = randomness.generator(*view.key("batch", step))
        rows = draws.integers(known, size=min(view.budget.batch, known))
        return mse_loss(network(prepare(inputs[rows], ("step", step))).sigmoid(), images[rows])

    curve = fit(network, loss, lambda: mse_loss(picture(network, held_inputs), held_images), view.budget)
    return network, curve


def train_on_auxiliary(view: View, prepare: Prepare) -> tuple[nn.Module, Curve]:
    """Train a decoder on auxiliary images and what the site's own front end makes of them."""
    images = view.auxiliary().inputs
    return train_decoder(view, view.front_end(images), images, prepare)


def train_on_leaked(view: View, sent: Sent) -> Pictures:
    """Train a decoder on what crossed for leaked training images, and reconstruct the others."""
    rows, leaked, rest = view.leaked()
    values, places = sent.paired(rows)
    network, curve = train_decoder(view, values, leaked.inputs[places], lambda x, _: x)
    return Pictures(picture(network, sent.averaged(rest)), "train", rest, curve)


@torch.no_grad()
def picture(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return a trained decoder's images (N, 3, S, S) in [0, 1]."""
    return torch.cat([network(part).sigmoid() for part in inputs.split(32)])


@attack("decoder.front_end", Knowledge.FRONT_END, Knowledge.AUXILIARY)
def known_front_end(view: View) -> Pictures:
    """Reconstruct the test images, given the front end and with it as many pairs as auxiliary images.

    The strongest decoder: an insider, or a server that has learnt the front end otherwise.
    """
    network, curve = train_on_auxiliary(view, lambda x, key: view.noised(x, *key))
    sent = view.released("test")
    return Pictures(picture(network, sent.values), "test", sent.rows, curve)


@attack("denoiser", Knowledge.FRONT_END, Knowledge.AUXILIARY)
def servers_denoiser(view: View) -> Pictures:
    """Do the same looking at x̂1 instead of x_t: does the server's CRDM-1 help to see more?"""
    if not view.has_denoiser:
        raise AttackError("the server denoises nothing in this job; attack with 'decoder' instead")
    network, curve = train_on_auxiliary(view, lambda x, key: view.denoised(view.noised(x, *key)))
    sent = view.released("test")
    return Pictures(picture(network, view.denoised(sent.values)), "test", sent.rows, curve)


@attack("decoder.pairs", Knowledge.PAIRS)
def leaked_pairs(view: View) -> Pictures:
    """Reconstruct training images from their last releases, where others have leaked."""
    return train_on_leaked(view, view.released("train", LEAK_ROUNDS))
