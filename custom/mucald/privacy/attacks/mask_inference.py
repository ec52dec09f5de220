"""Mask inference at the second split: what the features, or the gradient that answers them, tell of a mask.

Label inference from gradients after Li et al., "Label Leakage and Protection in Two-party Split Learning"
(arXiv 2102.08504). In segmentation ∂L/∂x̂₂ is a map, so it leaks the label pixel by pixel. Noise on it is
new in every epoch, so the average over the epochs, aligned by sample, has less of it.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mucald import randomness
from mucald.losses import SegmentationLoss
from mucald.metrics import dice_per_image, image_scores
from mucald.privacy.attacks.base import Attack, Knowledge, Masks
from mucald.privacy.attacks.fitting import Budget, fit
from mucald.privacy.attacks.networks import PixelProbe, seeded
from mucald.privacy.attacks.traffic import Sent
from mucald.privacy.attacks.view import View
from mucald.split.messages import Field

_SMALLEST = 1e-12
LEAK_ROUNDS = 3
HELD_OUT = 0.25


class _MaskInference(Attack):
    """A probe trained on the training images that leaked with their masks.

    Class attributes:
        field: what it reads.
    """

    knowledge = frozenset({Knowledge.PAIRS})
    field: ClassVar[Field]

    def maps(self, view: View) -> Sent:
        """Return what the probe reads: each map of the last rounds."""
        sent = view.training(self.field, LEAK_ROUNDS)
        return Sent(normalised(sent.values), sent.rows, sent.epochs)

    def run(self, view: View, budget: Budget) -> Masks:
        """Infer the masks of the other training images."""
        rows, leaked, rest = view.leaked()
        sent = self.maps(view)
        ours = sent.of(rows)
        place = torch.searchsorted(rows, ours.rows)
        order = torch.argsort(place, stable=True)
        inputs, masks = ours.values[order], leaked.masks[place[order]]
        held = max(1, int(HELD_OUT * len(inputs)))
        known = len(inputs) - held
        n_classes, size = view.task.n_classes, masks.shape[-1]
        with seeded(*view.key("probe")):
            probe = PixelProbe(inputs.shape[1], size, n_classes, budget.width)

        # Cross-entropy alone would call everything background where little is known.
        criterion = SegmentationLoss(n_classes, 1.0)

        def loss(step: int) -> Tensor:
            draws = randomness.generator(*view.key("batch", step))
            chosen = draws.integers(known, size=min(budget.batch, known))
            return criterion(probe(inputs[chosen]), masks[chosen])

        def held_out() -> Tensor:
            return criterion(probe(inputs[-held:]), masks[-held:])

        curve = fit(probe, loss, held_out, budget)
        with torch.no_grad():
            logits = torch.stack([probe(sent.values[sent.rows == row]).mean(dim=0) for row in rest])
        return Masks(logits.argmax(dim=1), blind_guess(leaked.masks, n_classes), rest, curve)


class FromFeatures(_MaskInference):
    """Reads x̂₂, which the server itself computed and sent down."""

    name = "mask_inference.features"
    field = Field.FEATURES


class FromGradient(_MaskInference):
    """Reads ∂L/∂x̂₂, which the site sends up."""

    name = "mask_inference.gradient"
    field = Field.FEATURE_GRADIENT


class _FromAverage(_MaskInference):
    """Reads each sample's average over all epochs.

    Early gradients are larger, and late ones those of the networks at rest. So there are two averages, one
    over each half of the epochs, and the probe learns how to weigh them.
    """

    def maps(self, view: View) -> Sent:
        """Return the averages (N, 2·L, h, w) of all training samples."""
        sent = view.training(self.field)
        epochs, rows = sent.epochs.unique(), sent.rows.unique()
        half = (len(epochs) + 1) // 2
        halves = [sent.within(part).averaged(rows) for part in (epochs[:half], epochs[-half:])]
        return Sent(torch.cat([normalised(part) for part in halves], dim=1), rows, torch.zeros_like(rows))


class FromAverageFeatures(_FromAverage):
    """Averages x̂₂."""

    name = "mask_inference.features_average"
    field = Field.FEATURES


class FromAverageGradient(_FromAverage):
    """Averages ∂L/∂x̂₂, as it was sent: what is clipped and noised has the same noise in every epoch."""

    name = "mask_inference.gradient_average"
    field = Field.FEATURE_GRADIENT


def normalised(values: Tensor) -> Tensor:
    """Scale each map (L, h, w) to a standard deviation of 1: a gradient shrinks while a site learns."""
    return values / values.std(dim=(1, 2, 3), keepdim=True).clamp(min=_SMALLEST)


def blind_guess(masks: Tensor, n_classes: int) -> Tensor:
    """Return the one mask (S, S) that fits the known masks (N, S, S) best without looking at anything else.

    Pixels whose foreground share reaches a threshold get their most common foreground class; the threshold is
    the one with the best mean Dice.
    """
    shares = one_hot(masks, n_classes).float().mean(dim=0)
    foreground = shares[..., 1:].sum(dim=-1)
    common = shares[..., 1:].argmax(dim=-1) + 1
    guesses = [torch.where(foreground >= t, common, 0) for t in torch.linspace(0.05, 0.95, 19)]

    def score(guess: Tensor) -> float:
        scores = image_scores(guess.expand(len(masks), -1, -1), masks, n_classes, surface=False)
        known = [value for value in dice_per_image([scores]) if value is not None]
        return sum(known) / max(len(known), 1)

    return max(guesses, key=score)
