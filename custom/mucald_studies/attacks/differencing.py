"""Differencing of releases that share their noise: x_t − x'_t = √ᾱ_t (x − x'), without any noise.

``release.mode`` = ``memoised`` repeats a sample's noise on a latent that moves while the network learns.
Under ``fresh`` the noise of both releases adds up, and under ``once`` there is no second release.
"""

from typing import ClassVar

import torch
from torch import Tensor

from mucald.errors import AttackError
from mucald_studies.attacks.decoder import LEAK_ROUNDS, picture, train_decoder
from mucald_studies.attacks.harness.base import Attack, Changes, Knowledge, Pictures
from mucald_studies.attacks.harness.fitting import Budget
from mucald_studies.attacks.harness.traffic import Sent
from mucald_studies.attacks.harness.view import View

_SMALLEST = 1e-12


class LatentChange(Attack):
    """Recovers how each training sample's clean latent moved from its first release to its second."""

    name = "differencing.change"
    knowledge: ClassVar[frozenset[Knowledge]] = frozenset()

    def run(self, view: View, budget: Budget) -> Changes:  # noqa: ARG002 - nothing to spend
        """Scale the differences back.

        Raises:
            AttackError: no sample was released twice.
        """
        first, second, *_ = _repeated(view).by_epoch()
        return Changes(_weight(view, second - first) * (second - first))


class Difference(Attack):
    """A decoder for the difference of a sample's late releases and its first one, taught by leaked images."""

    name = "differencing.pictures"
    knowledge = frozenset({Knowledge.PAIRS})

    def run(self, view: View, budget: Budget) -> Pictures:
        """Reconstruct the other training images.

        Raises:
            AttackError: no sample was released twice.
        """
        rows, leaked, rest = view.leaked()
        sent = _repeated(view)
        first = sent.by_epoch()[0]
        late = view.released("train", LEAK_ROUNDS).within(sent.epochs.unique()[1:])
        moved = late.values - first[torch.searchsorted(sent.rows.unique(), late.rows)]
        late = Sent(moved * _weight(view, moved), late.rows, late.epochs)
        ours = late.of(rows)
        place = torch.searchsorted(rows, ours.rows)
        # Pairs of one image stay together, so that the held-out ones are of images never learnt from.
        order = torch.argsort(place, stable=True)
        network, curve = train_decoder(
            view, budget, ours.values[order], leaked.images[place[order]], lambda x, _: x
        )
        return Pictures(picture(network, late.averaged(rest)), "train", rest, curve)


def _repeated(view: View) -> Sent:
    sent = view.released("train")
    if len(sent.epochs.unique()) < 2:
        raise AttackError("every training image was released once; there is no second release to subtract")
    return sent


def _weight(view: View, differences: Tensor) -> float:
    """Return the factor of the best linear estimate of a latent's change from differences (Wiener, 1949)."""
    release = view.config.release
    kept = float(view.schedule.alpha_bar(release.t)) if release.noised else 1.0
    noise = 0.0 if release.mode == "memoised" else 2 * (1 - kept)
    power = max(float(differences.square().mean()), _SMALLEST)
    return max(power - noise, 0.0) / power / kept**0.5
