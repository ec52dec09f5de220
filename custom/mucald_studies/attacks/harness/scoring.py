"""How well an attack did, image by image, with bootstrap intervals over images."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from torch import Tensor

from mucald.errors import AttackError
from mucald.metrics import segmentation as metrics
from mucald.randomness import generator
from mucald_studies.attacks.harness.result import Estimate, Metrics

RESAMPLES = 1000
CONFIDENCE = 0.95
SMALLEST_ERROR = 1e-20

Values = NDArray[np.float64]


def estimate(values: Tensor | Values) -> Estimate:
    """Return the mean over images and its percentile bootstrap interval; NaN values do not count.

    Args:
        values: one per image (N,).

    Raises:
        AttackError: no value counts.
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not known.size:
        raise AttackError("no image counts for this metric")
    rows = generator("attack", "bootstrap", known.size).integers(known.size, size=(RESAMPLES, known.size))
    return _with_interval(float(known.mean()), known[rows].mean(axis=1))


def _with_interval(value: float, resampled: Values) -> Estimate:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def psnr(error: Tensor, peak: float = 1.0) -> Tensor:
    """Return the peak signal-to-noise ratio in dB of mean squared errors (N,); an error of 0 gives 200."""
    return 10 * torch.log10(peak**2 / error.double().clamp(min=SMALLEST_ERROR * peak**2))


def _errors(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).square().mean(dim=(1, 2, 3))


def image_metrics(images: Tensor, truth: Tensor) -> Metrics:
    """Compare images (N, 3, S, S) in [0, 1] with the truth: MSE, PSNR in dB, SSIM (Wang et al., 2004)."""
    # Imported here: MONAI takes seconds to import.
    from monai.metrics.regression import SSIMMetric

    error = _errors(images, truth)
    ssim = SSIMMetric(spatial_dims=2, data_range=1.0)(images, truth).reshape(-1)
    return {"psnr": estimate(psnr(error)), "mse": estimate(error), "ssim": estimate(ssim)}


def psnr_gain(images: Tensor, blind: Tensor, truth: Tensor) -> Metrics:
    """Return by how many dB images (N, 3, S, S) are nearer to the truth than ``blind``, image by image."""
    return {"psnr_gain": estimate(psnr(_errors(images, truth)) - psnr(_errors(blind, truth)))}


def latent_metrics(latents: Tensor, truth: Tensor, peak: float) -> Metrics:
    """Compare latents (N, L, h, w) with the clean ones; PSNR in dB for numbers that span ``peak``."""
    error = _errors(latents, truth)
    return {"latent_psnr": estimate(psnr(error, peak)), "latent_mse": estimate(error)}


def mask_metrics(labels: Tensor, truth: Tensor, n_classes: int) -> Metrics:
    """Compare masks (N, S, S) with the truth: Dice, the mean over foreground classes of each image."""
    scores = metrics.image_scores(labels, truth, n_classes, surface=False)
    return {"dice": estimate(np.array(metrics.dice_per_image([scores]), dtype=np.float64))}


def auc(members: Values, others: Values) -> float:
    """Return the area under the ROC curve: the chance that a member outscores another (ties half)."""
    pairs = mannwhitneyu(members, others, method="asymptotic").statistic
    return float(pairs) / (len(members) * len(others))


def tpr_at_fpr(members: Values, others: Values, rate: float) -> float:
    """Return the share of members found where at most ``rate`` of the others is taken for a member.

    Raises:
        AttackError: so few others cannot show such a rate; the message tells how many are needed.
    """
    needed = math.ceil(1 / rate - 1e-9)
    if len(others) < needed:
        raise AttackError(
            f"a false positive rate of {100 * rate:g} % needs {needed} images that were not trained on, "
            f"there are {len(others)}"
        )
    # One above the highest others that must stay below: ties count against the attacker.
    threshold = np.sort(others)[::-1][math.floor(rate * len(others))]
    return float((members > threshold).mean())


def resampled(statistic: Callable[[Values, Values], float], members: Values, others: Values) -> Estimate:
    """Return a statistic of members and others with its bootstrap interval over the images of either."""
    draws = generator("attack", "bootstrap", len(members), len(others))
    values = [
        statistic(
            members[draws.integers(len(members), size=len(members))],
            others[draws.integers(len(others), size=len(others))],
        )
        for _ in range(RESAMPLES // 2)
    ]
    return _with_interval(statistic(members, others), np.array(values))
