"""The classification loss, computed at the site, where the classes are."""

import torch.nn.functional as F
from torch import Tensor, nn

from mucald.tasks import Target


class ClassificationLoss(nn.Module):
    """Cross-entropy of one class per sample.

    Args:
        n_classes: classes C of the task.
    """

    name = "classification"
    target: Target = "class"

    def __init__(self, n_classes: int):
        super().__init__()
        self.n_classes = n_classes

    def terms(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the scalar term ``cross_entropy``, the mean over samples.

        Args:
            logits: B x C.
            labels: B, int64, values 0..C-1.
        """
        return {"cross_entropy": F.cross_entropy(logits, labels)}

    @staticmethod
    def combine(terms: dict[str, Tensor]) -> Tensor:
        """Return the loss, a scalar, from what :meth:`terms` returned."""
        return terms["cross_entropy"]

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, for logits (B x C) and labels (B, int64)."""
        return self.combine(self.terms(logits, labels))
