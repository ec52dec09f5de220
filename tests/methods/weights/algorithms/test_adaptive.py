"""Every site follows the others as far as their updates agree with its own."""

import pytest
import torch
from families import config_of
from tiny_job import equal_models, run_job

from mucald.errors import ConfigError
from mucald.methods.weights.algorithms import make_algorithm
from mucald.methods.weights.algorithms.adaptive import Adaptive
from mucald.methods.weights.algorithms.base import Update
from mucald.methods.weights.algorithms.fedavg import FedAvg
from mucald.methods.weights.config import AlgorithmConfig
from mucald.methods.weights.shared_weights import SharedWeights

START = {"middle.a": torch.zeros(2), "end.b": torch.zeros(2)}
STATES = dict.fromkeys(("east", "north", "west"), START)
ONE, AGAINST, ASIDE = (torch.tensor(each) for each in ([1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]))


def update(site, middle, end, n_train=1):
    change = {"middle.a": middle, "end.b": end}
    return Update(
        site, {name: tensor for name, tensor in change.items() if tensor is not None}, n_train, None
    )


def combine(*updates, kept=0.0, memory=None, states=STATES):
    return Adaptive(kept).combine(states, updates, {} if memory is None else memory)


def middles(combined):
    return {site: state["middle.a"].tolist() for site, state in combined.items()}


def test_sites_that_agree_get_the_mean_by_sizes():
    updates = (update("east", ONE, ONE), update("north", 3 * ONE, ONE, 2), update("west", ONE, ONE))
    mean = FedAvg().combine(STATES, updates, {})["east"]
    assert all(torch.equal(state[name], mean[name]) for state in combine(*updates).values() for name in START)


def test_of_orthogonal_and_opposite_updates_each_site_gets_its_own():
    changes = {"east": ONE, "north": AGAINST, "west": ASIDE}
    combined = combine(*(update(site, change, ONE) for site, change in changes.items()))
    assert middles(combined) == {site: change.tolist() for site, change in changes.items()}
    # The part on which all agree is the mean of all.
    assert all(state["end.b"].tolist() == ONE.tolist() for state in combined.values())


def test_a_site_follows_by_the_cosine_and_the_size():
    half = torch.tensor([0.6, 0.8])
    combined = combine(
        update("east", ONE, ONE), update("north", half, ONE, n_train=2), update("west", ASIDE, ONE)
    )
    # Cosines with east: 0.6 and 0.
    share = 2 * 0.6 / (1 + 2 * 0.6)
    assert middles(combined)["east"] == pytest.approx(((1 - share) * ONE + share * half).tolist())


def test_sites_begin_as_in_fedavg_and_part_over_rounds():
    memory, states = {}, STATES
    updates = [update("east", ONE, ONE), update("north", ASIDE, ONE), update("west", AGAINST, ONE)]
    shares = []
    for _ in range(3):
        start = states
        states = combine(*updates, kept=0.5, memory=memory, states=states)
        shares.append(float((states["east"]["middle.a"] - start["east"]["middle.a"])[1]))
    # Agreement of east with north is 1/2, 1/4, 1/8; with west 0.
    assert shares == pytest.approx([0.5 / 1.5, 0.25 / 1.25, 0.125 / 1.125])


def test_who_is_absent_follows_the_others_and_what_nobody_sends_stays():
    memory = {}
    combined = combine(update("east", ONE, None), update("west", AGAINST, None, n_train=3), memory=memory)
    assert middles(combined) == {"east": [1.0, 0.0], "north": [-0.5, 0.0], "west": [-1.0, 0.0]}
    assert all(state["end.b"].tolist() == [0.0, 0.0] for state in combined.values())
    again = combine(update("north", ONE, ONE), memory=memory)
    assert middles(again) == {"east": [1.0, 0.0], "north": [1.0, 0.0], "west": [1.0, 0.0]}


def test_who_keeps_a_part_at_home_is_away_from_it_alone():
    memory = {}
    combined = combine(
        update("east", ONE, ONE), update("north", ONE, None), update("west", ONE, AGAINST), memory=memory
    )
    # Away, it follows all as at the beginning.
    assert combined["north"]["end.b"].tolist() == [0.0, 0.0]
    assert [combined[site]["end.b"].tolist() for site in ("east", "west")] == [[1.0, 0.0], [-1.0, 0.0]]
    again = combine(update("east", ONE, ONE), update("north", ONE, ONE), memory=memory)
    assert again["north"]["end.b"].tolist() == [1.0, 0.0]


def test_that_forgets_nothing_is_fedavg_to_the_bit(tmp_path):
    never = config_of("weights adaptive", algorithm={"name": "adaptive", "args": {"memory": 1.0}})
    runs = [
        run_job(config_of("weights fedavg"), tmp_path / "average"),
        run_job(never, tmp_path / "never"),
    ]
    for one, other in zip(*(run.results["rounds"] for run in runs), strict=True):
        assert one["sites"] == other["sites"]
    assert equal_models(*runs)


def test_a_checkpoint_holds_how_well_sites_agree():
    shared = SharedWeights("shared", ["west", "north", "east"], START, Adaptive(0.5))
    updates = [update("east", ONE, ONE), update("north", AGAINST, ONE), update("west", ASIDE, ONE)]
    shared.combine(updates)
    other = SharedWeights("shared", ["north", "east", "west"], START, Adaptive(0.5))
    other.load_state({name: tensor.clone() for name, tensor in shared.state().items()})
    for each in (shared, other):
        each.combine(updates)
    for site in STATES:
        assert all(torch.equal(shared.weights[site][n], other.weights[site][n]) for n in START)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"memory": 1.5}, r"memory must lie in \[0, 1\], not 1.5"),
        ({}, "missing key 'algorithm.args.memory'"),
    ],
)
def test_wrong_arguments_are_named(args, message):
    with pytest.raises(ConfigError, match=message):
        make_algorithm(AlgorithmConfig(name="adaptive", args=args))
