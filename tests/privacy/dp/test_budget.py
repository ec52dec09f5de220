"""ε of a schedule against other accountants."""

import math

import dp_accounting
import pytest
from dp_accounting import pld
from opacus.accountants import PRVAccountant

from mucald.privacy.dp.budget import Guarantee
from mucald.privacy.gaussian import epsilon, mu_of


@pytest.mark.parametrize("value", [0.01, 0.3, 1.0, 8.0, 50.0])
@pytest.mark.parametrize("delta", [1e-7, 1e-4, 0.1])
def test_mu_is_the_inverse_of_epsilon_and_never_above_it(value, delta):
    mu = mu_of(value, delta)
    assert epsilon(mu, delta) == pytest.approx(value, rel=1e-7)
    assert epsilon(mu, delta) <= value


@pytest.mark.parametrize(("value", "releases"), [(1.0, 100), (1.0, 1), (4.0, 250), (8.0, 20)])
def test_a_schedule_spends_what_was_asked_for_by_three_accountants(value, releases):
    guarantee = Guarantee(value, 1e-4)
    sigma = guarantee.noise_multiplier(releases)
    assert epsilon(math.sqrt(releases) / sigma, 1e-4) == pytest.approx(value, rel=1e-6)
    accountant = pld.PLDAccountant(
        dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=1e-3
    )
    accountant.compose(dp_accounting.GaussianDpEvent(sigma), releases)
    assert accountant.get_epsilon(1e-4) == pytest.approx(value, rel=2e-2)
    prv = PRVAccountant()
    for _ in range(releases):
        prv.step(noise_multiplier=sigma, sample_rate=1.0)
    assert prv.get_epsilon(delta=1e-4, eps_error=0.01) == pytest.approx(value, abs=0.02)


def test_numbers_of_the_specification():
    assert Guarantee(1.0, 1e-4).mu == pytest.approx(0.314, abs=5e-4)
    assert Guarantee(1.0, 1e-4).noise_multiplier(100) == pytest.approx(31.9, abs=0.05)


@pytest.mark.parametrize(
    ("value", "delta", "word"),
    [(0.0, 1e-5, "epsilon"), (-1, 0.1, "epsilon"), (1, 0.0, "delta"), (1, 1.0, "delta")],
)
def test_impossible_guarantees_are_refused(value, delta, word):
    with pytest.raises(ValueError, match=word):
        Guarantee(value, delta)
