import numpy as np
import pytest
from samples import parabola

from mucald.randomness import generator
from mucald_studies.discovery.notears import LinearNotears, Matrix
from mucald_studies.discovery.rows import Rows, bootstrap, complete_rows, learn

THRESHOLD = 0.1


def rows(correlation: float, count: int = 100) -> Rows:
    rng = generator("pair", count)
    first, noise = rng.standard_normal((2, count))
    second = correlation * first + np.sqrt(1 - correlation**2) * noise
    return complete_rows(("a", "b"), np.stack([first, second], axis=1))


def test_equal_seeds_give_equal_shares_and_others_not() -> None:
    sample = rows(0.15)
    first, second, other = (bootstrap(sample, LinearNotears(), THRESHOLD, 30, seed) for seed in (1, 1, 2))
    assert (first.shares == second.shares).all()
    assert (first.shares != other.shares).any()


def test_a_strong_edge_is_always_there_and_its_direction_is_a_coin_toss() -> None:
    """For two z-scored nodes both directions have the same score."""
    stability = bootstrap(rows(0.8), LinearNotears(), THRESHOLD, 40, 7)
    this_way, other_way = stability.share(("a", "b")), stability.share(("b", "a"))
    assert this_way + other_way == 1
    assert 0.2 < this_way < 0.8
    assert stability.resamples == 40


def test_a_weak_edge_comes_and_goes() -> None:
    shares = bootstrap(rows(0.15), LinearNotears(), THRESHOLD, 40, 7).shares
    assert 0.05 < shares.sum() < 0.95


class Recorder:
    """Learns nothing and keeps what it is given."""

    def __init__(self) -> None:
        self.samples: list[Matrix] = []

    def fit(self, samples: Matrix, rng: np.random.Generator) -> Matrix:  # noqa: ARG002
        self.samples.append(samples)
        return np.zeros((samples.shape[1],) * 2)


def test_resamples_are_drawn_with_replacement_and_z_scored_anew() -> None:
    recorder, done = Recorder(), list[int]()
    sample = rows(0.5)
    shares = bootstrap(sample, recorder, THRESHOLD, 3, 7, done.append).shares
    assert done == [1, 2, 3]
    assert not shares.any()
    for drawn in recorder.samples:
        assert drawn.shape == sample.values.shape
        # 1 - 1/e of the rows of a large sample are in a resample.
        assert 50 < len(np.unique(drawn, axis=0)) < 76
        assert drawn.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
        assert drawn.std(axis=0, ddof=1) == pytest.approx([1, 1])


def test_a_node_that_is_constant_in_a_resample_has_no_edges_there() -> None:
    values = parabola(60, 0)
    rare = np.zeros((60, 1))
    rare[0] = 1
    sample = complete_rows(("a", "b", "rare"), np.concatenate([values, rare], axis=1))
    stability = bootstrap(sample, LinearNotears(), THRESHOLD, 10, 7)
    assert np.isfinite(stability.shares).all()
    assert stability.shares[2].max() < 1


def test_learn_is_the_fit_of_all_rows_without_cycles() -> None:
    sample = rows(0.8)
    strengths = learn(sample, LinearNotears(), THRESHOLD, 7)
    assert (strengths == learn(sample, LinearNotears(), THRESHOLD, 7)).all()
    assert np.count_nonzero(strengths) == 1
    assert strengths.sum() == pytest.approx(
        np.corrcoef(sample.values.T)[0, 1] - LinearNotears().sparsity, abs=0.02
    )
