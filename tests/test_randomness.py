from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from mucald import randomness


def test_equal_keys_give_equal_draws():
    first = randomness.normal((3, 5), 7, "site", 0, 1, "release")
    assert torch.equal(first, randomness.normal((3, 5), 7, "site", 0, 1, "release"))


def test_every_part_of_the_key_counts():
    keys = [(7, "a", 0, 1), (8, "a", 0, 1), (7, "b", 0, 1), (7, "a", 1, 1), (7, "a", 0, 2), (7, "a", 0, "1")]
    draws = [randomness.normal((8,), *key) for key in keys]
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


def test_parts_of_a_key_do_not_run_together():
    assert not torch.equal(randomness.normal((8,), "a", "bc"), randomness.normal((8,), "ab", "c"))


def test_normal_numbers_have_mean_0_variance_1_and_are_uncorrelated_between_keys():
    first, second = (randomness.normal((200_000,), "moments", k).double() for k in (1, 2))
    assert abs(first.mean()) < 0.01
    assert abs(first.var() - 1) < 0.02
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.01


def test_uniform_numbers_fill_the_unit_interval_and_never_reach_one():
    draws = randomness.uniform((100_000,), "rounding").double()
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.005
    assert abs(draws.var() - 1 / 12) < 0.002


def test_signs_are_plus_or_minus_one_with_equal_odds():
    draws = randomness.signs((100_000,), "probe")
    assert set(draws.unique().tolist()) == {-1.0, 1.0}
    assert abs(draws.mean()) < 0.02


def test_initialisation_is_seeded_and_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with randomness.seeded_initialisation(7, "middle"):
        first = torch.nn.Linear(4, 4).weight
    assert torch.equal(torch.rand(3), expected)
    with randomness.seeded_initialisation(7, "middle"):
        assert torch.equal(torch.nn.Linear(4, 4).weight, first)
    with randomness.seeded_initialisation(8, "middle"):
        assert not torch.equal(torch.nn.Linear(4, 4).weight, first)


def test_the_generator_has_more_than_32_bits_of_key():
    state = randomness.generator(7, "x").bit_generator.state["state"]["key"]
    assert state.dtype == np.uint64
    assert all(word >= 2**32 for word in state)


def test_threads_that_initialise_at_once_do_not_disturb_each_other():
    def weights(key: int) -> torch.Tensor:
        with randomness.seeded_initialisation("thread", key):
            return torch.cat([torch.nn.Linear(8, 8).weight for _ in range(20)])

    expected = [weights(key) for key in range(16)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(weights, range(16)))
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
