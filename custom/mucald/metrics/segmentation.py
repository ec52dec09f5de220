"""Segmentation metrics: scored per image and class, then averaged over classes, then over images.

Conventions, where TP, FP and FN are pixel counts of one class in one image:

- Dice 2TP/(2TP+FP+FN), IoU TP/(TP+FP+FN), precision TP/(TP+FP), recall TP/(TP+FN).
- HD95 is the larger of the two directed 95th percentiles, ASSD the mean over the pixels of both surfaces, of
  the distances from one mask's surface to the other mask's *surface* (not to its inside), in pixels at
  the resolution of the labels. They are given for foreground classes only.
- A class that neither reference nor prediction holds does not count: NaN, left out of every mean.
- A class that only one of the two holds scores 0 (0/0 included), and its surface distances are the image's
  diagonal, the worst there can be.
- An image's score is the mean over those of its foreground classes that count (with the background for
  ``iou_with_background``); a site's score is the mean over its images that count.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
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
        return masks.sum(dim=(2, 3)).cpu()

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
    # Imported here: MONAI takes seconds to import, and validation needs no surface distances.
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_distance import compute_average_surface_distance

    # On the CPU whatever the device, so that all devices give the same numbers.
    predicted, reference = predicted.cpu(), reference.cpu()
    in_prediction, in_reference = predicted.any(dim=(2, 3)), reference.any(dim=(2, 3))
    in_both = in_prediction & in_reference
    in_one = in_prediction ^ in_reference
    in_both[:, BACKGROUND] = in_one[:, BACKGROUND] = False

    # Each pair of masks that has both surfaces, as a batch of images with a single class.
    pair = predicted[in_both][:, None], reference[in_both][:, None]
    # MONAI calls a function of its own with an argument that it has deprecated. The filter stays in place,
    # because taking it back is not safe while other threads score.
    warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
    distances = {
        "hd95": compute_hausdorff_distance(*pair, include_background=True, percentile=HAUSDORFF_PERCENTILE),
        "assd": compute_average_surface_distance(*pair, include_background=True, symmetric=True),
    }
    scores = {}
    for name, values in distances.items():
        scores[name] = torch.full(in_both.shape, torch.nan, dtype=torch.float64)
        scores[name][in_one] = math.hypot(*predicted.shape[2:])
        scores[name][in_both] = values[:, 0].double()
    return scores


def _foreground_mean(scores: Tensor) -> Tensor:
    foreground = [index for index in range(scores.shape[1]) if index != BACKGROUND]
    return scores[:, foreground].nanmean(dim=1)


def _mean(scores: Tensor) -> float | None:
    value = scores.nanmean().item()
    return None if math.isnan(value) else value
