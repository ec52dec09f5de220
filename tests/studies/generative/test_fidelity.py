"""Measures of fidelity and leakage, against exact ones and where the answer is known."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from tiny_job import draw
from torch import Tensor

from mucald_studies.attacks.harness.scoring import auc
from mucald_studies.generative.fidelity import (
    mmd,
    precision_recall,
    sinkhorn,
    two_sample_test,
)
from mucald_studies.generative.leakage import membership, nearest_neighbour_leakage


def exact_transport(x: Tensor, y: Tensor) -> float:
    """Return the 2-Wasserstein distance of two sets of equally many samples (N, D), by the best matching."""
    costs = torch.cdist(x.double(), y.double()).square().numpy()
    return float(np.sqrt(costs[linear_sum_assignment(costs)].mean()))


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_sinkhorn_comes_near_the_best_matching(shift):
    x, y = draw(60, 4), draw(60, 4, seed=1) * 0.5 + shift
    assert sinkhorn(x, y) == pytest.approx(exact_transport(x, y), rel=0.08)


def test_sinkhorn_of_a_shifted_set_is_the_shift_and_of_the_same_set_nothing():
    x = draw(50, 3)
    assert exact_transport(x, x + 1.0) == pytest.approx(3**0.5, rel=1e-5)
    assert sinkhorn(x, x + 1.0) == pytest.approx(3**0.5, rel=0.02)
    assert sinkhorn(x, x) == pytest.approx(0.0, abs=1e-3)


def test_equal_distributions_are_near_and_others_are_not():
    x, same, other = draw(200, 5), draw(200, 5, seed=1), draw(200, 5, seed=2) + 1.5
    assert abs(mmd(x, same)) < 0.01 < 0.1 < mmd(x, other)
    assert abs(two_sample_test(x, same) - 0.5) < 0.12
    assert two_sample_test(x, other) > 0.9
    precision, recall = precision_recall(x, same)
    assert min(precision, recall) > 0.6
    assert precision_recall(x, x[:5] * 0.01 + x[:1])[1] < 0.1, "a few alike cover little"
    assert max(precision_recall(x, other + 10)) == 0.0


def test_a_generator_that_copies_leaks_and_one_that_draws_anew_does_not():
    train, held_out = draw(80, 6), draw(80, 6, seed=1)
    assert nearest_neighbour_leakage(train, held_out, train + 1e-3) == 1.0
    assert nearest_neighbour_leakage(train, held_out, draw(200, 6, seed=2)) == pytest.approx(0.5, abs=0.12)


def test_the_membership_attack_finds_copies_and_nothing_in_fresh_draws():
    x, labels = draw(40, 6), torch.arange(40) % 2

    def copies(own, classes, number):
        return own + 0.1 * draw(*own.shape, seed=number), classes

    def fresh(own, classes, number):
        return draw(*own.shape, seed=100 + number), classes

    assert membership(copies, x, labels) > 0.8
    assert membership(fresh, x, labels) == pytest.approx(0.5, abs=0.1)


def test_ties_count_half():
    assert auc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == 0.875
