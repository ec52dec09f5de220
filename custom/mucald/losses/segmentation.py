"""The segmentation loss, computed at the site, where the labels are."""

import torch.nn.functional as F
from torch import Tensor, nn

from mucald.tasks import Target

# Keeps 0 / 0 out of a class that is neither in the batch's labels nor predicted.
DICE_EPSILON = 1e-7


class SegmentationLoss(nn.Module):
    """Dice plus weighted cross-entropy (MuCALD-SplitFed, ICIP 2026, segmentation term).

    The Dice term takes the softmax of the logits, sums over all pixels of the batch, and averages
    over all C classes, background included. A class that no label of the batch has contributes 0, and so
    neither loss nor gradient: its Dice score is 0 whatever is predicted, and the cross-entropy already
    penalises predicting it. The background stays in, since it alone tells the Dice term of false positives
    in a batch without foreground.

    Of a class that the batch has, it is MONAI's ``DiceLoss`` (softmax, ``batch``, no ``smooth_nr``) to the
    bit. That one is not called: importing MONAI takes longer than the one task for which the simulator starts
    a process.

    Shapes are given for images; volumes have a third spatial axis.

    Args:
        n_classes: classes C of the task, background included.
        cross_entropy_weight: factor of the cross-entropy.
    """

    name = "segmentation"
    target: Target = "mask"

    def __init__(self, n_classes: int, cross_entropy_weight: float = 0.5):
        super().__init__()
        self.n_classes = n_classes
        self.cross_entropy_weight = cross_entropy_weight

    def terms(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the unweighted scalar terms ``dice`` and ``cross_entropy``.

        Args:
            logits: B x C x H x W.
            labels: B x H x W, int64, values 0..C-1.
        """
        axes = (0, *range(2, logits.ndim))
        overlap, predicted, present = (part.sum(dim=axes) for part in self._parts(logits, labels))
        # Simpler sums would differ from MONAI's in the last bits.
        false_positive, false_negative = 0.5 * (predicted - overlap), 0.5 * (present - overlap)
        dice = 1 - 2 * overlap / (2 * (overlap + false_positive + false_negative) + DICE_EPSILON)
        return {"dice": (dice * (present > 0)).mean(), "cross_entropy": F.cross_entropy(logits, labels)}

    def _parts(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return overlap, prediction and reference of every pixel and class, each B x C x H x W."""
        predicted = logits.softmax(dim=1)
        reference = F.one_hot(labels, self.n_classes).movedim(-1, 1).to(predicted.dtype)
        return predicted * reference, predicted, reference

    @staticmethod
    def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
        """Return every sample's cross-entropy (B,), mean over pixels."""
        return F.cross_entropy(logits, labels, reduction="none").mean(dim=tuple(range(1, labels.ndim)))

    def weighted_terms(self, logits: Tensor, labels: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Return the terms of samples that count as ``weights`` of a sample each; ones give :meth:`terms`.

        The Dice term weighs every pixel by its sample, and is as much of itself as the mean weight. So the
        sum over disjoint groups of samples (weights 0 and 1) is their Dice terms' mean by size.

        Args:
            logits: B x C x H x W.
            labels: B x H x W, int64, values 0..C-1.
            weights: B, at least 0.
        """
        overlap, predicted, reference = self._parts(logits, labels)
        # Products first, so that a weight of 0 takes a sample out of sums and gradients.
        axes = tuple(range(2, logits.ndim))
        overlap, sizes, present = (
            (weights[:, None] * quantity.sum(dim=axes)).sum(dim=0)
            for quantity in (overlap, predicted + reference, reference)
        )
        dice = 1 - 2 * overlap / (sizes + DICE_EPSILON)
        return {
            "dice": weights.mean() * (dice * (present > 0)).mean(),
            "cross_entropy": (weights * self.cross_entropy(logits, labels)).mean(),
        }

    def combine(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the loss, a scalar, from what :meth:`terms` returned."""
        return terms["dice"] + self.cross_entropy_weight * terms["cross_entropy"]

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, for logits (B x C x H x W) and labels (B x H x W, int64)."""
        return self.combine(self.terms(logits, labels))
