"""One logit per class out of a map of them."""

import math

from torch import Tensor


def average(logits: Tensor) -> Tensor:
    """Return the mean (B, C) of a map of logits (B, C, …).

    Of a linear map of features it is the same as the linear map of their mean, that is of global average
    pooling.
    """
    return logits.flatten(2).mean(dim=2)


def log_mean_exp(logits: Tensor, sharpness: float) -> Tensor:
    """Return log mean exp(r x) / r (B, C) of a map of logits x (B, C, …): LSE pooling.

    It lies between their mean (r → 0) and their maximum (r → ∞). Its gradient is softmax(r x), which sums to
    1; the published code divides that by r once more.

    Args:
        logits: (B, C, …).
        sharpness: r, above 0.
    """
    flat = logits.flatten(2)
    return ((sharpness * flat).logsumexp(dim=2) - math.log(flat.shape[2])) / sharpness
