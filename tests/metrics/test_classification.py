import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_roc_auc

from mucald.metrics.classification import balanced_accuracy, balanced_per_sample, sample_scores, summarise
from mucald.metrics.names import NAMES

CLASSES = ("a", "b", "c")


def scores_of(probabilities, labels):
    return [sample_scores(torch.tensor(probabilities).log(), torch.tensor(labels))]


def test_counts_by_hand():
    batches = scores_of(
        [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.5, 0.3, 0.2], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1]], [0, 0, 0, 1, 0]
    )
    summary = summarise(batches, CLASSES)
    assert summary["accuracy"] == pytest.approx(4 / 5)
    # The class c is neither in the reference nor predicted: it counts nowhere.
    assert summary["balanced_accuracy"] == balanced_accuracy(batches) == pytest.approx((3 / 4 + 1) / 2)
    of_a, of_b = 2 * 3 / (3 + 4), 2 * 1 / (2 + 1)
    assert summary["f1"] == pytest.approx((of_a + of_b) / 2)
    assert summary["f1_weighted"] == pytest.approx((4 * of_a + of_b) / 5)
    assert summary["per_class"]["c"] == {"precision": None, "recall": None, "f1": None, "auroc": None}
    assert balanced_per_sample(batches) == pytest.approx([5 / 8, 5 / 8, 5 / 8, 5 / 2, 0])
    assert np.mean(balanced_per_sample(batches)) == pytest.approx(balanced_accuracy(batches))
    assert set(NAMES["class"].metrics) == set(summary) - {"per_class"}


def test_a_class_that_is_only_predicted_scores_zero_f1():
    summary = summarise(scores_of([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]], [0, 0]), CLASSES)
    assert summary["f1"] == pytest.approx(2 * 1 / (1 + 2) / 2)
    assert summary["auroc"] is None, "all samples are of one class"


def test_auroc_is_that_of_monai_with_ties():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randint(-3, 4, (60, 3), generator=generator).double()
    labels = torch.randint(0, 3, (60,), generator=generator)
    expected = compute_roc_auc(logits.softmax(dim=1), torch.nn.functional.one_hot(labels, 3), average="macro")
    assert summarise([sample_scores(logits, labels)], CLASSES)["auroc"] == pytest.approx(expected, abs=1e-12)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    batches = scores_of([[0.9, 0.05, 0.05]] * 4 + [[0.55, 0.25, 0.2]] * 2, [0, 0, 0, 1, 0, 0])
    expected = (4 * abs(0.9 - 0.75) + 2 * abs(0.55 - 1)) / 6
    assert summarise(batches, CLASSES)["calibration_error"] == pytest.approx(expected)


def test_batches_are_counted_together():
    logits, labels = torch.randn(12, 3, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3
    parts = [
        sample_scores(*part) for part in zip(logits.split([5, 4, 3]), labels.split([5, 4, 3]), strict=True)
    ]
    assert summarise(parts, CLASSES) == summarise([sample_scores(logits, labels)], CLASSES)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="logits have shape"):
        sample_scores(torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="3 classes were scored, but 2 named"):
        summarise(scores_of([[0.3, 0.3, 0.4]], [0]), CLASSES[:2])


def test_nothing_is_hidden_in_not_a_number():
    summary = summarise(scores_of([[1.0, 0.0, 0.0]], [0]), CLASSES)
    assert all(
        value is None or math.isfinite(value) for value in summary.values() if not isinstance(value, dict)
    )
