"""Several middle networks side by side, and a site's mixture of them (FedEM; Marfoq et al., NeurIPS 2021).

The components share their input, and their features lie one after the other in the channels. A site runs its
one back end on each component's features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mucald.losses.segmentation import SegmentationLoss


class Components(nn.Module):
    """The server's M middle networks of one site."""

    def __init__(self, middles: Sequence[nn.Module]):
        super().__init__()
        self.components = nn.ModuleList(middles)

    def forward(self, latent: Tensor) -> Tensor:
        """Map the latent (B, L, h, w) to all components' features (B, M·L, h, w)."""
        return torch.cat([middle(latent) for middle in self.components], dim=1)


class Mixture(nn.Module):
    """How much each component counts at one site: π, and the EM steps that learn it.

    The E-step takes place within every training step, on that step's own forward pass; a pass of its own over
    the data, as in the paper, would show the server every image once more per round.

    Args:
        components: their number M.
    """

    weights: Tensor

    def __init__(self, components: int):
        super().__init__()
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self._sum = torch.zeros(components, dtype=torch.float64)
        self._count = 0

    def begin_round(self) -> None:
        """Forget the responsibilities of an unfinished round."""
        self._sum.zero_()
        self._count = 0

    def end_round(self) -> None:
        """Let π be the mean responsibilities of the round's samples."""
        self.weights.copy_(self._sum / self._count)

    def responsibilities(self, cross_entropy: Tensor) -> Tensor:
        """Return q ∝ π exp(−cross-entropy), detached (E-step).

        Args:
            cross_entropy: of every sample and component (B, M), mean over pixels.
        """
        return (self.weights.log() - cross_entropy.detach()).softmax(dim=1)

    def terms(self, loss: SegmentationLoss, logits: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return the loss terms of the M-step, weighted by the responsibilities, and remember those for π.

        Args:
            loss: the site's.
            logits: of each component (B, C, H, W).
            labels: class numbers (B, H, W).
        """
        cross_entropy = torch.stack([loss.cross_entropy(one, labels) for one in logits], dim=1)
        shares = self.responsibilities(cross_entropy)
        self._sum += shares.sum(dim=0).double().cpu()
        self._count += len(shares)
        terms = [loss.weighted_terms(one, labels, shares[:, m]) for m, one in enumerate(logits)]
        return {name: torch.stack([term[name] for term in terms]).sum() for name in terms[0]}

    def predict(self, logits: Sequence[Tensor]) -> Tensor:
        """Return Σ π_m logits_m (B, C, H, W)."""
        return (self.weights[:, None, None, None, None] * torch.stack(list(logits))).sum(dim=0)
