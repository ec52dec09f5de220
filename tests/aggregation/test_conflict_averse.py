import itertools

import numpy as np
import pytest
import torch
from next_states import next_states
from scipy import optimize

from mucald.aggregation import Contribution, make_rule
from mucald.errors import ConfigError
from mucald.randomness import normal

SITES = ("ankara", "berlin", "cairo")


def rule(c):
    return make_rule("conflict_averse", {"c": c})


def states(name, sites=SITES):
    return {site: {"weight": normal((3, 4), site, name), "bias": normal((4,), site, name)} for site in sites}


def contributions(ends):
    return [Contribution(site, state, 1) for site, state in ends.items()]


def flat(state):
    return torch.cat([tensor.double().flatten() for tensor in state.values()])


def mean(states):
    return torch.stack([flat(state) for state in states.values()]).mean(dim=0)


def updates(start, end):
    return torch.stack([flat(end[site]) - flat(start[site]) for site in end])


def test_with_c_0_it_is_the_mean():
    start, end = states("start"), states("end")
    found = next_states(rule(0), start, contributions(end))
    expected = next_states(make_rule("equal", {}), start, contributions(end))
    for site in SITES:
        torch.testing.assert_close(flat(found[site]), flat(expected[site]), rtol=1e-6, atol=1e-7)


def test_equal_updates_from_different_starts_stay_what_they_are():
    start, update = states("start"), normal((16,), "update")
    shift = {"weight": update[:12].reshape(3, 4), "bias": update[12:]}
    end = {site: {n: tensor + shift[n] for n, tensor in start[site].items()} for site in SITES}
    found = next_states(rule(0.7), start, contributions(end))
    torch.testing.assert_close(flat(found["cairo"]), mean(start) + update.double(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
def test_the_worst_site_gains_where_updates_conflict(c):
    start = {site: {"x": torch.zeros(2)} for site in ("a", "b")}
    end = {"a": {"x": torch.tensor([4.0, 1.0])}, "b": {"x": torch.tensor([-1.0, 1.0])}}
    shared = flat(next_states(rule(c), start, contributions(end))["a"])
    worst, of_mean = ((updates(start, end) @ d).min().item() for d in (shared, mean(end)))
    assert worst > of_mean + 0.05
    assert of_mean < 0


@pytest.mark.filterwarnings("ignore:delta_grad == 0.0")
def test_the_update_is_the_best_of_all_near_the_mean():
    """An independent formula: the primal problem, max over d of the least g_i·d, by another solver."""
    start, end, c = states("start"), states("end"), 0.5
    g = updates(start, end).numpy()
    g0 = g.mean(axis=0)
    radius = c * np.linalg.norm(g0)
    found = optimize.minimize(
        lambda x: -x[-1],
        np.append(g0, (g @ g0).min()),
        method="trust-constr",
        constraints=[
            optimize.LinearConstraint(np.hstack([g, -np.ones((3, 1))]), 0, np.inf),
            optimize.NonlinearConstraint(
                lambda x: ((x[:-1] - g0) ** 2).sum(),
                0,
                radius**2,
                jac=lambda x: 2 * np.append(x[:-1] - g0, 0),
            ),
        ],
        options={"maxiter": 3000, "gtol": 1e-10, "xtol": 1e-12},
    )
    shared = flat(next_states(rule(c), start, contributions(end))["berlin"]) - mean(start)
    worst = (torch.from_numpy(g) @ shared).min().item() * (1 + c)
    assert worst == pytest.approx(found.x[-1], rel=1e-3)
    assert worst > (g @ g0).min() + 0.1


@pytest.mark.parametrize("c", [0.1, 0.4, 0.8])
def test_no_weights_on_a_grid_are_better_than_the_solvers(c):
    g = updates(states("start"), states("end")).numpy()
    gram = g @ g.T
    g0 = gram.mean(axis=1)

    def objective(w):
        return w @ g0 + c * np.sqrt(gram.mean() * (w @ gram @ w))

    best = min(
        objective(np.array([i, j, 50 - i - j]) / 50)
        for i, j in itertools.product(range(51), repeat=2)
        if i + j <= 50
    )
    assert objective(rule(c)._weights(gram)) <= best + 1e-9


def test_what_a_failed_site_started_with_does_not_count():
    start, end = states("start"), states("end", SITES[:2])
    one = next_states(rule(0.5), start, contributions(end))
    other = next_states(rule(0.5), start | states("elsewhere", SITES[2:]), contributions(end))
    assert one.keys() == set(SITES)
    for site in SITES:
        assert torch.equal(flat(one[site]), flat(other[site]))


def test_updates_of_nothing_and_updates_that_cancel_out_lead_to_the_mean_of_the_starts():
    start = states("start")
    idle = next_states(rule(0.5), start, contributions(start))
    torch.testing.assert_close(flat(idle["ankara"]), mean(start), rtol=1e-6, atol=1e-6)
    start = {site: {"x": torch.zeros(2)} for site in ("a", "b")}
    end = {"a": {"x": torch.tensor([1.0, 2.0])}, "b": {"x": torch.tensor([-1.0, -2.0])}}
    assert not next_states(rule(0.5), start, contributions(end))["a"]["x"].any()


@pytest.mark.parametrize("c", [-0.1, 1.0])
def test_a_c_out_of_range_is_refused(c):
    with pytest.raises(ConfigError, match=r"c must lie in \[0, 1\)"):
        rule(c)
