"""How a site scores a model on its validation and its test images, whoever holds the networks."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mucald.data.site_data import Batch, DataSplit, SiteData
from mucald.errors import TrainingError
from mucald.losses.segmentation import SegmentationLoss
from mucald.metrics import segmentation as metrics

Predict = Callable[[int, Batch], Tensor]
"""Gives the logits (B, C, H, W) of a mini-batch, given its number and the batch itself."""

PredictEach = Callable[[int, Tensor, Batch], Sequence[Tensor]]
"""The same with several models, one tensor of logits each; it is given the batch's rows in the split too."""


@dataclass(frozen=True)
class Previews:
    """The best, median and worst test image: images (N, 3, H, W), labels and predictions (N, H, W).

    For the site's own eyes.
    """

    images: Tensor
    labels: Tensor
    predictions: Tensor


@dataclass
class _Validation:
    """What one model has scored so far: its batches' scores, and its mean loss."""

    scores: list[Any] = field(default_factory=list)
    loss: float = 0.0


def data_report(site: str, data: SiteData, round_number: int) -> dict[str, Any]:
    """Return what every report says of the site, its data and the round."""
    return {
        "site": site,
        "task": data.task.name,
        "source": data.source,
        "round": round_number,
        **{f"n_{name}": len(getattr(data, name)) for name in ("train", "validation", "test")},
    }


def in_order(split: DataSplit, batch_size: int) -> Iterator[tuple[int, Tensor, Batch]]:
    """Yield number, rows and content of every mini-batch of a split, in the order of its images."""
    for step, rows in enumerate(torch.arange(len(split)).split(batch_size)):
        yield step, rows, split.batch(rows)


def scores_of_validation(
    site: str,
    split: DataSplit,
    batch_size: int,
    loss: SegmentationLoss,
    round_number: int,
    predict: PredictEach,
) -> list[tuple[float | None, float]]:
    """Return mean Dice (None where no class counts) and mean loss on a site's validation images, per model.

    Raises:
        TrainingError: a loss is not finite.
    """
    found: list[_Validation] = []
    for step, rows, batch in in_order(split, batch_size):
        predictions = predict(step, rows, batch)
        found = found or [_Validation() for _ in predictions]
        for validation, logits in zip(found, predictions, strict=True):
            validation.scores.append(
                metrics.image_scores(logits, batch.targets, loss.n_classes, surface=False)
            )
            batch_loss = float(loss(logits, batch.targets.to(logits.device)))
            if not math.isfinite(batch_loss):
                raise TrainingError(
                    f"validation loss of site '{site}' is not finite at round/step {round_number}/{step}"
                )
            validation.loss += len(rows) / len(split) * batch_loss
    return [(metrics.mean_dice(validation.scores), validation.loss) for validation in found]


def scores_of_test(
    data: SiteData, batch_size: int, predict: Predict
) -> tuple[dict[str, Any], list[float | None], Previews | None]:
    """Return scores of a model on a site's test images: in all, Dice per image, example predictions."""
    split, classes = data.test, data.task.classes
    scores, predictions = [], []
    for step, _, batch in in_order(split, batch_size):
        logits = predict(step, batch)
        scores.append(metrics.image_scores(logits, batch.targets, len(classes), surface=True))
        predictions.append(logits.argmax(dim=1).cpu())
    dice_per_image, previews = metrics.dice_per_image(scores), None
    if data.tensorboard_images and (telling := metrics.telling_images(dice_per_image)):
        shown = split.batch(telling)
        previews = Previews(shown.inputs, shown.targets, torch.cat(predictions)[telling])
    return metrics.summarise(scores, classes), dice_per_image, previews
