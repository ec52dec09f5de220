"""Differencing: x_t − x'_t = √ᾱ_t (x − x') + √(1−ᾱ_t) (ε − ε') of two releases of a training image.

Fresh noise adds up, and where an image is released once there is no second release.
"""

import torch
from torch import Tensor

from mucald.errors import AttackError
from mucald_studies.attacks.decoder import LEAK_ROUNDS, train_on_leaked
from mucald_studies.attacks.harness.base import Knowledge, Latents, Pictures, attack
from mucald_studies.attacks.harness.traffic import Sent
from mucald_studies.attacks.harness.view import View

_SMALLEST = 1e-12


@attack("differencing.change")
def latent_change(view: View) -> Latents:
    """Recover how each training sample's clean latent moved from its first release to its second."""
    first, second, *_ = _repeated(view).by_epoch()
    return Latents(_weight(view, second - first) * (second - first), changes=True)


@attack("differencing.repeated_noise", Knowledge.COUNTERFACTUAL)
def repeated_noise(view: View) -> Latents:
    """Do the same as if both releases of a sample had the same noise ε = ε'. No job can ask for it: see why.

    A site that draws a sample's noise once and repeats it, so that nothing averages out, shows in the
    difference how the latent moved, free of noise.
    """
    _repeated(view)
    first, second = view.with_repeated_noise()
    return Latents((second - first) / _signal(view), changes=True)


@attack("differencing.pictures", Knowledge.PAIRS)
def difference(view: View) -> Pictures:
    """Decode the difference of a sample's late releases and its first one, taught by leaked images."""
    sent = _repeated(view)
    first = sent.by_epoch()[0]
    late = view.released("train", LEAK_ROUNDS).within(sent.epochs.unique()[1:])
    moved = late.values - first[torch.searchsorted(sent.rows.unique(), late.rows)]
    return train_on_leaked(view, Sent(moved * _weight(view, moved), late.rows, late.epochs))


def _repeated(view: View) -> Sent:
    """Return the training releases.

    Raises:
        AttackError: no sample was released twice.
    """
    sent = view.released("train")
    if len(sent.epochs.unique()) < 2:
        raise AttackError("every training image was released once; there is no second release to subtract")
    return sent


def _signal(view: View) -> float:
    """Return √ᾱ_t of a release; 1 where nothing is noised."""
    release = view.config.release
    return float(view.schedule.alpha_bar(release.t)) ** 0.5 if release.noised else 1.0


def _weight(view: View, differences: Tensor) -> float:
    """Return the factor of the best linear estimate of a latent's change from differences (Wiener, 1949)."""
    signal = _signal(view)
    power = max(float(differences.square().mean()), _SMALLEST)
    return max(power - 2 * (1 - signal**2), 0.0) / power / signal
