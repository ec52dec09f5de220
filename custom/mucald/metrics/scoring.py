"""How a site scores a model on its validation and its test images, whoever holds the networks."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from mucald.data.site_data import Batch, DataSplit, SiteData
from mucald.errors import TrainingError
from mucald.metrics import classification, segmentation
from mucald.tasks import Target

Predict = Callable[[int, Batch], Tensor]
"""Gives the logits (B, C, …) of a mini-batch, given its number and the batch itself."""

PredictEach = Callable[[int, Tensor, Batch], Sequence[Tensor]]
"""The same with several models, one tensor of logits each; it is given the batch's rows in the split too."""


Scores = dict[str, Tensor]


class Loss(Protocol):
    """The training loss of a task, see :mod:`mucald.losses`."""

    n_classes: int
    target: Target

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar."""


@dataclass(frozen=True)
class Scorer:
    """How models of a kind of target are scored. The functions are given what ``quick`` or ``full`` returned.

    Args:
        quick: what ``primary`` is made of, from logits, targets and the number of classes.
        full: what a test's scores are made of.
        primary: the score that decides which round is best; None where nothing counts.
        per_image: what is told of each image.
        summarise: all scores by name, given the classes' names.
    """

    quick: Callable[[Tensor, Tensor, int], Scores]
    full: Callable[[Tensor, Tensor, int], Scores]
    primary: Callable[[Sequence[Scores]], float | None]
    per_image: Callable[[Sequence[Scores]], list[float | None]]
    summarise: Callable[[Sequence[Scores], Sequence[str]], dict[str, Any]]


def _of_samples(logits: Tensor, targets: Tensor, n_classes: int) -> Scores:  # noqa: ARG001 - one signature
    return classification.sample_scores(logits, targets)


SCORERS: dict[Target, Scorer] = {
    "mask": Scorer(
        partial(segmentation.image_scores, surface=False),
        partial(segmentation.image_scores, surface=True),
        segmentation.mean_dice,
        segmentation.dice_per_image,
        segmentation.summarise,
    ),
    "class": Scorer(
        _of_samples,
        _of_samples,
        classification.balanced_accuracy,
        classification.balanced_per_sample,
        classification.summarise,
    ),
}


@dataclass(frozen=True)
class Previews:
    """The best, median and worst test image: images (N, 3, H, W), labels and predictions (N, H, W).

    Of a volume it is the slice with most labels. For the site's own eyes.
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
    """Yield number, rows and content of every mini-batch of a split, in the order of its images.

    Samples of unlike sizes come one by one.
    """
    size = batch_size if split.together else 1
    for step, rows in enumerate(torch.arange(len(split)).split(size)):
        yield step, rows, split.batch(rows)


def scores_of_validation(
    site: str, split: DataSplit, batch_size: int, loss: Loss, round_number: int, predict: PredictEach
) -> list[tuple[float | None, float]]:
    """Return primary score (None where no class counts) and mean loss on a site's validation, per model.

    Raises:
        TrainingError: a loss is not finite.
    """
    scorer, found = SCORERS[loss.target], list[_Validation]()
    for step, rows, batch in in_order(split, batch_size):
        predictions = predict(step, rows, batch)
        found = found or [_Validation() for _ in predictions]
        for validation, logits in zip(found, predictions, strict=True):
            validation.scores.append(scorer.quick(logits, batch.targets, loss.n_classes))
            batch_loss = float(loss(logits, batch.targets.to(logits.device)))
            if not math.isfinite(batch_loss):
                raise TrainingError(
                    f"validation loss of site '{site}' is not finite at round/step {round_number}/{step}"
                )
            validation.loss += len(rows) / len(split) * batch_loss
    return [(scorer.primary(validation.scores), validation.loss) for validation in found]


def scores_of_test(
    data: SiteData, batch_size: int, predict: Predict
) -> tuple[dict[str, Any], list[float | None], Previews | None]:
    """Return scores of a model on a site's test images: in all, for each image, and example predictions.

    There are examples of segmentations alone.
    """
    split, classes, scorer = data.test, data.task.classes, SCORERS[data.task.target]
    scores, predictions = list[Scores](), list[Tensor]()
    for step, _, batch in in_order(split, batch_size):
        logits = predict(step, batch)
        scores.append(scorer.full(logits, batch.targets, len(classes)))
        if data.task.target == "mask":
            predictions += logits.argmax(dim=1).cpu()
    per_image, previews = scorer.per_image(scores), None
    if data.tensorboard_images and predictions and (telling := segmentation.telling_images(per_image)):
        previews = _previews(split, telling, predictions)
    return scorer.summarise(scores, classes), per_image, previews


def _previews(split: DataSplit, telling: Sequence[int], predictions: Sequence[Tensor]) -> Previews:
    shown = [_slice(split.batch([row]), predictions[row]) for row in telling]
    images, labels, predicted = zip(*shown, strict=True)
    return Previews(_stacked(images), _stacked(labels), _stacked(predicted))


def _slice(batch: Batch, prediction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return image (3, H, W), labels and prediction (H, W) of one sample."""
    image, labels = batch.inputs[0], batch.targets[0]
    if labels.ndim == 2:
        return image, labels, prediction
    chosen = int((labels > 0).sum(dim=(0, 1)).argmax())
    # The third axis runs from feet to head, so that a slice is seen as on a ward's screen but for its turn.
    image, labels, prediction = image[..., chosen], labels[..., chosen], prediction[..., chosen]
    low, high = image[0].min(), image[0].max()
    grey = (image[:1] - low) / (high - low).clamp(min=torch.finfo(image.dtype).tiny)
    return grey.expand(3, -1, -1), labels, prediction


def _stacked(pictures: Sequence[Tensor]) -> Tensor:
    """Stack pictures (…, H, W) of unlike sizes; smaller ones get a dark margin."""
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (-2, -1))
    return torch.stack(
        [
            F.pad(picture, (0, width - picture.shape[-1], 0, height - picture.shape[-2]))
            for picture in pictures
        ]
    )
