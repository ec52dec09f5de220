"""Segmentation metrics: scored per image and class, then averaged over classes, then over images.

Conventions, where TP, FP and FN are pixel counts of one class in one image:

- Dice 2TP/(2TP+FP+FN), IoU TP/(TP+FP+FN), precision TP/(TP+FP), recall TP/(TP+FN).
- HD95 is the larger of the two directed 95th percentiles, ASSD the mean over the pixels of both surfaces, of
  the distances from one mask's surface to the other mask's *surface* (not to its inside), in pixels at
  the resolution of the labels. They are given for foreground classes only.
- A class that neither reference nor prediction holds does not count: NaN, left out of every mean.
- A class that only one of the two holds scores 0 (0/0 included), and its surface distances are the image's
  diagonal, the worst there can be.
- Of volumes pixels are voxels, and all that is said of H x W holds for three axes.
- An image's score is the mean over those of its foreground classes that count (with the background for
  ``iou_with_background``); a site's score is the mean over its images that count.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Scores = dict[str, Tensor]

BACKGROUND = 0
HAUSDORFF_PERCENTILE = 95


def image_scores(prediction: Tensor, labels: Tensor, n_classes: int, surface: bool) -> Scores:
    """Score every image and class of a batch.

    Args:
        prediction: logits (N x C x H x W) or predicted labels (N x H x W, int64).
        labels: the reference, N x H x W, int64.
        n_classes: classes C, background included.
        surface: also compute ``hd95`` and ``assd``, which take far longer than the rest.

    Returns:
        ``dice``, ``iou``, ``precision``, ``recall`` and, if ``surface``, ``hd95`` and ``assd``: each N x C,
        float64, on the CPU, NaN where the class does not count.

    Raises:
        RuntimeError: a label is not in 0..C-1.
        ValueError: the prediction does not have the labels' size.
    """
    if prediction.ndim == labels.ndim + 1:
        prediction = prediction.argmax(dim=1)
    if prediction.shape != labels.shape:
        raise ValueError(f"prediction has shape {tuple(prediction.shape)}, labels {tuple(labels.shape)}")
    predicted, reference = _masks(prediction, n_classes), _masks(labels.to(prediction.device), n_classes)
    scores = _overlap_scores(predicted, reference)
    if surface:
        scores |= _surface_scores(predicted, reference)
    return scores


def summarise(batches: Sequence[Mapping[str, Tensor]], class_names: Sequence[str]) -> dict[str, Any]:
    """Average the scores of all images of a site, ready for JSON.

    Args:
        batches: what :func:`image_scores` returned for each batch.
        class_names: the C classes in the order of their labels, background first.

    Returns:
        A mean for each metric over the foreground, ``iou_with_background``, and ``per_class``: for each class
        the mean of each metric over the images where it counts. None where nothing counts.

    Raises:
        ValueError: ``class_names`` are not as many as the classes scored.
    """
    scores = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    if scores["dice"].shape[1] != len(class_names):
        raise ValueError(f"{scores['dice'].shape[1]} classes were scored, but {len(class_names)} named")
    summary: dict[str, Any] = {name: _mean(_foreground_mean(values)) for name, values in scores.items()}
    summary["iou_with_background"] = _mean(scores["iou"].nanmean(dim=1))
    summary["per_class"] = {
        class_name: {name: _mean(values[:, index]) for name, values in scores.items()}
        for index, class_name in enumerate(class_names)
    }
    return summary


def mean_dice(batches: Sequence[Mapping[str, Tensor]]) -> float | None:
    """Return the site's mean Dice over foreground classes and images; None where nothing counts."""
    return _mean(_foreground_mean(torch.cat([batch["dice"] for batch in batches])))


def dice_per_image(batches: Sequence[Mapping[str, Tensor]]) -> list[float | None]:
    """Return each image's mean Dice over its foreground classes, in order, to pair runs image by image.

    An image where no foreground class counts has None, so that the list stays aligned with the images.
    """
    dice = _foreground_mean(torch.cat([batch["dice"] for batch in batches]))
    return [None if math.isnan(value) else value for value in dice.tolist()]


def telling_images(dice: Sequence[float | None]) -> list[int]:
    """Return the numbers of the images with the best, the median and the worst Dice, as far as they differ.

    Args:
        dice: what :func:`dice_per_image` returned; images with None are left out.
    """
    known = [index for index, value in enumerate(dice) if value is not None]
    ranked = sorted(known, key=lambda index: -(dice[index] or 0.0))
    chosen = (ranked[place] for place in (0, len(ranked) // 2, -1)) if ranked else ()
    return list(dict.fromkeys(chosen))


def _masks(labels: Tensor, n_classes: int) -> Tensor:
    return F.one_hot(labels, n_classes).movedim(-1, 1).bool()


def _overlap_scores(predicted: Tensor, reference: Tensor) -> Scores:
    def pixels(masks: Tensor) -> Tensor:
        return masks.flatten(2).sum(dim=2).cpu()

    hits, n_predicted, n_reference = pixels(predicted & reference), pixels(predicted), pixels(reference)
    union = n_predicted + n_reference - hits

    def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
        value = numerator.double() / denominator.clamp(min=1)
        return value.where(union > 0, torch.nan)

    return {
        "dice": ratio(2 * hits, n_predicted + n_reference),
        "iou": ratio(hits, union),
        "precision": ratio(hits, n_predicted),
        "recall": ratio(hits, n_reference),
    }


def _surface_scores(predicted: Tensor, reference: Tensor) -> Scores:
    # On the CPU whatever the device, so that all devices give the same numbers.
    predicted, reference = predicted.cpu(), reference.cpu()
    in_prediction, in_reference = predicted.flatten(2).any(dim=2), reference.flatten(2).any(dim=2)
    in_one = in_prediction ^ in_reference
    in_one[:, BACKGROUND] = False
    scores = {}
    for name in ("hd95", "assd"):
        scores[name] = torch.full(in_one.shape, torch.nan, dtype=torch.float64)
        scores[name][in_one] = math.hypot(*predicted.shape[2:])
    for image, label in (in_prediction & in_reference).nonzero().tolist():
        if label != BACKGROUND:
            there, back = _surface_distances(predicted[image, label].numpy(), reference[image, label].numpy())
            quantiles = (distances.quantile(HAUSDORFF_PERCENTILE / 100) for distances in (there, back))
            scores["hd95"][image, label] = max(quantiles)
            scores["assd"][image, label] = torch.cat((there, back)).mean()
    return scores


def _surface_distances(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Return the distances (float32) of each mask's surface to the other's, as MONAI's metrics measure them.

    MONAI does the same with the same functions, but its import takes every site's process a second.
    """
    from scipy.ndimage import binary_erosion  # validation needs no surface distances
    from scipy.spatial import KDTree

    surfaces = [np.argwhere(mask & ~binary_erosion(mask)) for mask in (first, second)]
    trees = [KDTree(surface) for surface in surfaces]
    there, back = trees[1].query(surfaces[0])[0], trees[0].query(surfaces[1])[0]
    return torch.from_numpy(there).float(), torch.from_numpy(back).float()


def _foreground_mean(scores: Tensor) -> Tensor:
    foreground = [index for index in range(scores.shape[1]) if index != BACKGROUND]
    return scores[:, foreground].nanmean(dim=1)


def _mean(scores: Tensor) -> float | None:
    value = scores.nanmean().item()
    return None if math.isnan(value) else value
