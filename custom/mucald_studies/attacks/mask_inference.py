"""Mask inference at the second split: what the features, or the gradient that answers them, tell of a mask.

Label inference from gradients after Li et al., "Label Leakage and Protection in Two-party Split Learning"
(arXiv 2102.08504). In segmentation ∂L/∂x̂₂ is a map, so it leaks the label pixel by pixel. Noise on it is
new in every epoch, so the average over the epochs, aligned by sample, has less of it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from mucald import randomness
from mucald.losses.segmentation import SegmentationLoss
from mucald.methods.split.wire.messages import Field
from mucald.metrics.segmentation import image_scores, mean_dice
from mucald_studies.attacks.harness.base import Attack, Knowledge, Masks, attack
from mucald_studies.attacks.harness.fitting import fit
from mucald_studies.attacks.harness.networks import PixelProbe, PriorProbe
from mucald_studies.attacks.harness.traffic import Sent
from mucald_studies.attacks.harness.view import View

_SMALLEST = 1e-12
LEAK_ROUNDS = 3
HELD_OUT = 0.25
# Epochs in a sub-average, and the least share of a class in the prior.
DRAWN = 0.7
FLIPPED = 0.5
LEAST_SHARE = 0.02
# From the middle outwards, so that it counts where others do no better.
THRESHOLDS = sorted((round(0.05 * number, 2) for number in range(2, 19)), key=lambda t: abs(t - 0.5))

Key = tuple[int | str, ...]

Drawn = Callable[[Tensor, Key], Tensor]
"""Maps (B, L, h, w) to learn from, of the samples with numbers (B,); the key names what is drawn for them."""

ProbeOf = Callable[[int, Tensor, int, int], nn.Module]
"""Makes a probe for maps of so many channels, given masks, their number of classes, and a width."""


def _infer(view: View, sent: Sent, probe_of: ProbeOf, drawn: Drawn | None = None) -> Masks:
    """Infer the masks of training images with a probe trained on those that leaked with their masks.

    Args:
        view: the attacker's.
        sent: what the probe reads.
        probe_of: makes an untrained probe by who knows some masks (N, S, S).
        drawn: draws maps to learn from anew in every step; None for the maps as they are.
    """
    rows, leaked, rest = view.leaked()
    inputs, places = sent.paired(rows)
    samples, masks = rows[places], leaked.targets[places]
    held = max(1, int(HELD_OUT * len(inputs)))
    known, n_classes = len(inputs) - held, view.task.n_classes
    with randomness.seeded_initialisation(*view.key("probe")):
        probe = probe_of(inputs.shape[1], masks[:known], n_classes, view.budget.width)

    # Cross-entropy alone would call everything background where little is known.
    criterion = SegmentationLoss(n_classes, 1.0)

    def loss(step: int) -> Tensor:
        draws = randomness.generator(*view.key("batch", step))
        chosen = draws.integers(known, size=min(view.budget.batch, known))
        if drawn is None:
            return criterion(probe(inputs[chosen]), masks[chosen])
        maps = drawn(samples[chosen], view.key("drawn", step))
        flipped = [axis for axis in (-2, -1) if draws.random() < FLIPPED]
        return criterion(probe(maps.flip(flipped)), masks[chosen].flip(flipped))

    curve = fit(probe, loss, lambda: criterion(probe(inputs[-held:]), masks[-held:]), view.budget)
    with torch.no_grad():
        logits = torch.stack([probe(sent.values[sent.rows == row]).mean(dim=0) for row in rest])
        threshold = best_threshold(probe(inputs[-held:]), masks[-held:])
    return Masks(labelled(logits, threshold), blind_guess(leaked.targets, n_classes), rest, curve)


def _from_single(name: str, field: Field) -> Attack:
    """Return an attack that reads each map of the last rounds."""

    @attack(name, Knowledge.PAIRS)
    def from_single(view: View) -> Masks:
        sent = view.training(field, LEAK_ROUNDS)
        return _infer(view, Sent(normalised(sent.values), sent.rows, sent.epochs), _pixel_probe)

    return from_single


def _from_average(name: str, field: Field) -> Attack:
    """Return an attack that reads each sample's average over all epochs.

    Early gradients are larger, and late ones those of the networks at rest. So there are two averages, one
    over each half of the epochs, and the probe learns how to weigh them. It learns from averages over a drawn
    share of the epochs, whose noise is another in every step, and from mirrored ones.
    """

    @attack(name, Knowledge.PAIRS)
    def from_average(view: View) -> Masks:
        return _infer(view, averages(view, field), _prior_probe, sub_averages(view, field))

    return from_average


from_features = _from_single("mask_inference.features", Field.FEATURES)
"""Reads x̂₂, which the server itself computed and sent down."""
from_gradient = _from_single("mask_inference.gradient", Field.FEATURE_GRADIENT)
"""Reads ∂L/∂x̂₂, which the site sends up."""
from_average_features = _from_average("mask_inference.features_average", Field.FEATURES)
from_average_gradient = _from_average("mask_inference.gradient_average", Field.FEATURE_GRADIENT)
"""Averages ∂L/∂x̂₂ as it was sent: clipped and noised alike, its noise is as large in every epoch."""


def averages(view: View, field: Field) -> Sent:
    """Return the averages (N, 2·L, h, w) of all training samples over each half of the epochs."""
    sent = view.training(field)
    stack, rows = torch.stack(sent.by_epoch(), dim=1), sent.rows.unique()
    return Sent(_halves(stack, torch.ones(stack.shape[:2])), rows, torch.zeros_like(rows))


def sub_averages(view: View, field: Field) -> Drawn:
    """Return what averages over a drawn share of each sample's epochs."""
    stack = torch.stack(view.training(field).by_epoch(), dim=1)

    def draw(samples: Tensor, key: Key) -> Tensor:
        uniform = randomness.generator(*key).random((len(samples), stack.shape[1]))
        return _halves(stack[samples], torch.from_numpy(uniform < DRAWN).float())

    return draw


def _pixel_probe(channels: int, masks: Tensor, n_classes: int, width: int) -> nn.Module:
    return PixelProbe(channels, masks.shape[-1], n_classes, width)


def _prior_probe(channels: int, masks: Tensor, n_classes: int, width: int) -> nn.Module:
    """Return a probe that begins with the shares of the classes among the known masks."""
    shares = one_hot(masks, n_classes).float().mean(dim=0).movedim(-1, 0).clamp(min=LEAST_SHARE)
    return PriorProbe(channels, (shares / shares.sum(dim=0)).log(), width)


def _halves(stack: Tensor, weights: Tensor) -> Tensor:
    """Return weighted means (N, 2·L, h, w) of maps (N, E, L, h, w) over the first and the second half of E.

    A half without weight (N, E) is zero.
    """
    half = (stack.shape[1] + 1) // 2
    weighted = stack * weights[..., None, None, None]
    means = []
    for part in (slice(None, half), slice(-half, None)):
        total = weights[:, part].sum(dim=1).clamp(min=1)[:, None, None, None]
        means.append(normalised(weighted[:, part].sum(dim=1) / total))
    return torch.cat(means, dim=1)


def labelled(logits: Tensor, threshold: float) -> Tensor:
    """Return masks (N, S, S): the best foreground class where foreground reaches a probability."""
    shares = logits.softmax(dim=1)
    return torch.where(1 - shares[:, 0] >= threshold, shares[:, 1:].argmax(dim=1) + 1, 0)


def best_threshold(logits: Tensor, masks: Tensor) -> float:
    """Return the threshold that fits the known masks (N, S, S) best: who is in doubt gains by a guess."""
    n_classes = logits.shape[1]
    return max(THRESHOLDS, key=lambda threshold: _mean_dice(labelled(logits, threshold), masks, n_classes))


def normalised(values: Tensor) -> Tensor:
    """Scale each map (L, h, w) to a standard deviation of 1: a gradient shrinks while a site learns."""
    return values / values.std(dim=(1, 2, 3), keepdim=True).clamp(min=_SMALLEST)


def blind_guess(masks: Tensor, n_classes: int) -> Tensor:
    """Return the one mask (S, S) that fits the known masks (N, S, S) best without looking at anything else.

    Pixels whose foreground share reaches the best threshold get their most common foreground class.
    """
    shares = one_hot(masks, n_classes).float().mean(dim=0)
    foreground = shares[..., 1:].sum(dim=-1)
    common = shares[..., 1:].argmax(dim=-1) + 1
    guesses = [torch.where(foreground >= t, common, 0) for t in torch.linspace(0.05, 0.95, 19)]
    return max(guesses, key=lambda guess: _mean_dice(guess.expand(len(masks), -1, -1), masks, n_classes))


def _mean_dice(labels: Tensor, masks: Tensor, n_classes: int) -> float:
    return mean_dice([image_scores(labels, masks, n_classes, surface=False)]) or 0.0
