import numpy as np
import pytest
from scipy import stats

from mucald_studies.reporting.statistics import (
    Comparison,
    bootstrap_interval,
    compare,
    holm,
    mean_and_deviation,
)


def draws(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.7, 0.1, shape)


def test_mean_and_deviation_over_seeds():
    mean, deviation = mean_and_deviation([0.6, 0.8, 1.0])
    assert mean == pytest.approx(0.8)
    assert deviation == pytest.approx(np.sqrt((0.2**2 + 0 + 0.2**2) / 2))
    assert mean_and_deviation([0.5]) == (0.5, None)
    assert mean_and_deviation([]) == (None, None)


def test_holm_by_hand():
    # Sorted .005, .01, .03, .04 times 4, 3, 2, 1; the last may not fall below the one before it.
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"only": 0.2}) == {"only": 0.2}
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_holm_never_rejects_what_bonferroni_would_not_and_never_more_than_without_correction():
    p = {str(i): value for i, value in enumerate(np.random.default_rng(1).uniform(0, 0.2, 30))}
    adjusted = holm(p)
    assert all(p[key] <= adjusted[key] <= min(1, 30 * p[key]) + 1e-12 for key in p)


def test_comparison_is_wilcoxons_test_on_differences_averaged_over_seeds():
    own, other = draws(3, 20), draws(3, 20, seed=1)
    result = compare([(own, other)])
    expected = stats.wilcoxon(own.mean(axis=0), other.mean(axis=0))
    assert result is not None
    assert result.p == pytest.approx(expected.pvalue)
    assert result.difference == pytest.approx((own - other).mean())
    assert result.n == 20


def test_comparison_over_sites_pools_images_but_weighs_sites_alike():
    large, small = draws(1, 30), draws(1, 10, seed=2)
    result = compare([(large + 0.01, large), (small + 0.05, small)])
    assert result is not None
    assert result.difference == pytest.approx(0.03)
    assert result.n == 40
    assert result.better


def test_images_that_count_in_one_method_only_are_left_out():
    own, other = draws(2, 12), draws(2, 12, seed=1)
    own[:, 3] = np.nan
    other[0, 5] = np.nan
    kept = [i for i in range(12) if i != 3]
    differences = (own - other)[:, kept]
    expected = stats.wilcoxon(np.nanmean(differences, axis=0))
    result = compare([(own, other)])
    assert result is not None
    assert result.n == 11
    assert result.p == pytest.approx(expected.pvalue)


def test_equal_scores_are_neither_better_nor_worse():
    scores = draws(2, 8)
    result = compare([(scores, scores)])
    assert result == Comparison(0.0, (0.0, 0.0), 1.0, 8)
    assert not result.better


def test_without_a_common_image_there_is_no_comparison():
    assert compare([(np.full((1, 3), np.nan), draws(1, 3))]) is None
    assert compare([]) is None


def test_few_images_are_never_significant():
    # The smallest two-sided p of five pairs is 2/32.
    better = compare([(draws(3, 5) + 0.5, draws(3, 5))])
    assert better is not None
    assert better.p == pytest.approx(2 / 32)
    assert not better.better


def test_bootstrap_of_one_seed_is_the_textbook_interval_of_a_mean():
    scores = draws(1, 400)
    low, high = bootstrap_interval([scores])
    spread = 1.96 * scores.std() / np.sqrt(400)
    assert low == pytest.approx(scores.mean() - spread, abs=0.15 * spread)
    assert high == pytest.approx(scores.mean() + spread, abs=0.15 * spread)


def test_bootstrap_of_several_sites_is_the_interval_of_the_mean_of_their_means():
    sites = [draws(1, 300), draws(1, 100, seed=1) - 0.3]
    centre = (sites[0].mean() + sites[1].mean()) / 2
    spread = 1.96 * np.sqrt(sites[0].var() / 300 + sites[1].var() / 100) / 2
    low, high = bootstrap_interval(sites)
    assert (low, high) == pytest.approx((centre - spread, centre + spread), abs=0.2 * spread)


def test_bootstrap_sees_the_spread_over_seeds():
    scores = draws(3, 200)
    shifts = np.array([[-0.1], [0.0], [0.1]])
    narrow, wide = bootstrap_interval([scores]), bootstrap_interval([scores + shifts])
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    # Seeds are drawn for all sites at once, so equal shifts of two sites do not average out.
    both = bootstrap_interval([scores + shifts, scores + shifts])
    assert both[1] - both[0] > 0.9 * (wide[1] - wide[0])


def test_bootstrap_leaves_out_images_that_do_not_count_and_repeats_itself():
    scores = draws(2, 50)
    holes = np.concatenate([scores, np.full((2, 50), np.nan)], axis=1)
    assert bootstrap_interval([np.full((2, 4), 0.25)]) == (0.25, 0.25)
    low, high = bootstrap_interval([holes])
    assert low < scores.mean() < high
    assert bootstrap_interval([holes]) == (low, high)
