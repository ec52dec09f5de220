"""Weights by how well a site's causal variables predict its proxies."""

from collections.abc import Sequence
from dataclasses import dataclass

from mucald.aggregation.base import Contribution, WeightedMean, normalise

EPSILON = 1e-8
MIN_PROXY_MSE = 1e-3
PROXY_MSE_IF_UNKNOWN = 10.0


@dataclass(frozen=True)
class CausalInvariant(WeightedMean):
    """Causal-invariant fusion (MuCALD-SplitFed, ICIP 2026, aggregation).

    For N contributions with n_i training images, validation loss v_i and proxy error m_i, in three steps::

        w_i = s_i / sum(s),  s_i = 1 / (max(m_i, 1e-3) + eps) * n_i / (v_i + eps)
        w_i = (w_i + floor / N) / (1 + floor)
        w_i = (1 - mixing) * w_i + mixing / N

    A site without proxies has m_i = 10. A site that has not validated counts as the worst that has; as long
    as none has (the first round), all weigh the same.

    Args:
        floor: at least 0; the authors use 0.25.
        mixing: share of the equal weights, 0 to 1; the authors use 0.5.
    """

    floor: float
    mixing: float

    def __post_init__(self) -> None:
        if self.floor < 0:
            raise ValueError(f"floor must not be negative, not {self.floor}")
        if not 0 <= self.mixing <= 1:
            raise ValueError(f"mixing must lie in [0, 1], not {self.mixing}")

    def weights(self, contributions: Sequence[Contribution]) -> list[float]:
        """Return the weights w_i described above."""
        n = len(contributions)
        losses = [c.validation_loss for c in contributions if c.validation_loss is not None]
        if not losses:
            return [1 / n] * n
        weights = normalise([_score(contribution, max(losses)) for contribution in contributions])
        weights = normalise([weight + self.floor / n for weight in weights])
        return [(1 - self.mixing) * weight + self.mixing / n for weight in weights]


def _score(contribution: Contribution, loss_if_unknown: float) -> float:
    mse = PROXY_MSE_IF_UNKNOWN if contribution.proxy_mse is None else contribution.proxy_mse
    loss = loss_if_unknown if contribution.validation_loss is None else contribution.validation_loss
    return contribution.n_train / ((max(mse, MIN_PROXY_MSE) + EPSILON) * (loss + EPSILON))
