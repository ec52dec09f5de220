"""Classification metrics: counted over all samples of a site.

Conventions, where TP, FP and FN are numbers of samples of one class:

- Accuracy is the share of samples whose likeliest class is right; balanced accuracy the mean recall
  TP/(TP+FN) over the classes that the reference has.
- F1 2TP/(2TP+FP+FN) is the mean over the classes that reference or prediction has: each counts alike, or for
  ``f1_weighted`` as often as the reference has it.
- AUROC is the mean, over the classes that some but not all samples have, of the area under the curve of that
  class against all others; ties count half.
- Calibration error (ECE, Guo et al., ICML 2017): the gap between the probability of the likeliest class and
  how often it is right, in ten bins of equal width, weighted by their numbers of samples.
- What nothing counts for is None.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Scores = dict[str, Tensor]

BINS = 10


def sample_scores(logits: Tensor, labels: Tensor) -> Scores:
    """Return what the scores of a batch are made of.

    Args:
        logits: N x C.
        labels: N, int64, values 0..C-1.

    Returns:
        ``probabilities``, N x C, float64, and ``labels``, N; on the CPU.

    Raises:
        ValueError: there is not one row of logits for every label.
    """
    if logits.ndim != 2 or logits.shape[:1] != labels.shape:
        raise ValueError(f"logits have shape {tuple(logits.shape)}, labels {tuple(labels.shape)}")
    return {"probabilities": logits.detach().double().softmax(dim=1).cpu(), "labels": labels.cpu()}


def summarise(batches: Sequence[Mapping[str, Tensor]], class_names: Sequence[str]) -> dict[str, Any]:
    """Return the scores of a site, ready for JSON.

    Args:
        batches: what :func:`sample_scores` returned for each batch.
        class_names: the C classes in the order of their numbers.

    Returns:
        every metric, and ``per_class``: of each class precision, recall, F1 and AUROC.

    Raises:
        ValueError: ``class_names`` are not as many as the classes scored.
    """
    probabilities, labels = _joined(batches)
    if probabilities.shape[1] != len(class_names):
        raise ValueError(f"{probabilities.shape[1]} classes were scored, but {len(class_names)} named")
    predicted = probabilities.argmax(dim=1)
    per_class = _per_class(predicted, probabilities, labels)
    support = F.one_hot(labels, len(class_names)).sum(dim=0).double()
    return {
        "balanced_accuracy": _mean(per_class["recall"]),
        "accuracy": _mean((predicted == labels).double()),
        "f1": _mean(per_class["f1"]),
        "f1_weighted": _number((per_class["f1"].nan_to_num() * support).sum() / support.sum()),
        "auroc": _mean(per_class["auroc"]),
        "calibration_error": _calibration_error(probabilities, labels),
        "per_class": {
            name: {metric: _number(values[index]) for metric, values in per_class.items()}
            for index, name in enumerate(class_names)
        },
    }


def balanced_accuracy(batches: Sequence[Mapping[str, Tensor]]) -> float | None:
    """Return the balanced accuracy over all samples of ``batches``."""
    probabilities, labels = _joined(batches)
    return _mean(_counted(probabilities.argmax(dim=1), labels, probabilities.shape[1])["recall"])


def balanced_per_sample(batches: Sequence[Mapping[str, Tensor]]) -> list[float | None]:
    """Return each sample's part in the balanced accuracy, in order; their mean is the balanced accuracy.

    That is N / (C·N_c) where the likeliest class is right, and 0 elsewhere: N samples of C classes, of which
    N_c have the sample's class.
    """
    probabilities, labels = _joined(batches)
    counts = labels.bincount(minlength=probabilities.shape[1]).double()
    weights = len(labels) / ((counts > 0).sum() * counts)
    return ((probabilities.argmax(dim=1) == labels) * weights[labels]).tolist()


def _joined(batches: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
    probabilities, labels = (
        torch.cat([batch[name] for batch in batches]) for name in ("probabilities", "labels")
    )
    return probabilities, labels


def _per_class(predicted: Tensor, probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return precision, recall, F1 and AUROC of every class (C,), NaN where undefined."""
    classes = range(probabilities.shape[1])
    areas = [_auroc(probabilities[:, index], labels == index) for index in classes]
    return _counted(predicted, labels, len(classes)) | {"auroc": torch.tensor(areas, dtype=torch.float64)}


def _counted(predicted: Tensor, labels: Tensor, n_classes: int) -> dict[str, Tensor]:
    chosen, true = F.one_hot(predicted, n_classes).double(), F.one_hot(labels, n_classes).double()
    hits, n_chosen, n_true = (chosen * true).sum(dim=0), chosen.sum(dim=0), true.sum(dim=0)
    return {"precision": hits / n_chosen, "recall": hits / n_true, "f1": 2 * hits / (n_chosen + n_true)}


def _auroc(scores: Tensor, positive: Tensor) -> float:
    from scipy.stats import rankdata  # training needs no ranks

    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return math.nan
    ranks = rankdata(scores.numpy())[positive.numpy()].sum()
    return float(ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def _calibration_error(probabilities: Tensor, labels: Tensor) -> float | None:
    confidence, predicted = probabilities.max(dim=1)
    correct = (predicted == labels).double()
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    gaps = torch.zeros(BINS, dtype=torch.float64).index_add(0, bins, confidence - correct)
    return _number(gaps.abs().sum() / len(labels))


def _mean(values: Tensor) -> float | None:
    return _number(values.nanmean())


def _number(value: Tensor) -> float | None:
    number = value.item()
    return None if math.isnan(number) else number
