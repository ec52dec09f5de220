import math

import numpy as np
import pytest
import torch

from mucald.errors import AttackError
from mucald_studies.attacks.harness import scoring


def test_psnr_is_that_of_its_definition_and_bounded():
    errors = torch.tensor([0.01, 1.0, 0.0])
    assert scoring.psnr(errors).tolist() == pytest.approx([20.0, 0.0, 200.0])
    assert scoring.psnr(errors, peak=10.0).tolist() == pytest.approx([40.0, 20.0, 200.0])


def test_equal_images_score_best():
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    metrics = scoring.image_metrics(images, images)
    assert metrics["mse"].value == 0
    assert metrics["ssim"].value == pytest.approx(1)
    assert scoring.image_metrics(1 - images, images)["ssim"].value < 0


def test_auc_is_the_share_of_pairs_in_the_right_order():
    members, others = np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0, 1.0, 1.0])
    pairs = [(m > o) + 0.5 * (m == o) for m in members for o in others]
    assert scoring.auc(members, others) == pytest.approx(sum(pairs) / len(pairs))


def test_the_true_positive_rate_allows_no_more_false_ones_than_asked_for():
    others = np.arange(200.0)
    members = np.array([197.5, 198.5, 150.0, 500.0])
    # 1 % of 200 is 2: those above 197.
    assert scoring.tpr_at_fpr(members, others, 0.01) == 0.75
    assert scoring.tpr_at_fpr(np.full(5, 7.0), np.full(100, 7.0), 0.01) == 0, (
        "ties count against the attacker"
    )


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 100), (0.1, 10), (0.001, 1000)])
def test_a_rate_that_too_few_images_cannot_show_is_refused_with_the_number_needed(rate, needed):
    assert scoring.tpr_at_fpr(np.ones(3), np.zeros(needed), rate) == 1
    with pytest.raises(AttackError, match=f"needs {needed} images that were not trained on, there are"):
        scoring.tpr_at_fpr(np.ones(3), np.zeros(needed - 1), rate)


def test_an_interval_holds_its_mean_and_narrows_with_the_number_of_images():
    draws = np.random.default_rng(0)
    few, many = (scoring.estimate(draws.normal(size=n)) for n in (20, 2000))
    for found in (few, many):
        assert found.low <= found.value <= found.high
    assert many.high - many.low < 0.2 * (few.high - few.low)
    # The normal theory's width.
    assert many.high - many.low == pytest.approx(2 * 1.96 / math.sqrt(2000), rel=0.15)


def test_images_that_do_not_count_are_left_out():
    assert scoring.estimate(np.array([1.0, math.nan, 3.0])).value == 2
    with pytest.raises(AttackError, match="no image counts"):
        scoring.estimate(np.array([math.nan]))
