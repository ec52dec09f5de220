"""Sites whose updates of a part pull apart learn it by themselves, and go on to share the rest."""

import pytest
import torch
from families import config_of
from tiny_job import equal_models, run_job

from mucald.errors import ConfigError
from mucald.methods.weights.algorithms import make_algorithm
from mucald.methods.weights.algorithms.base import Update
from mucald.methods.weights.algorithms.clustered import Clustered
from mucald.methods.weights.algorithms.fedavg import FedAvg
from mucald.methods.weights.config import AlgorithmConfig
from mucald.methods.weights.shared_weights import SharedWeights

START = {"middle.a": torch.zeros(2), "end.b": torch.zeros(2)}
STATES = dict.fromkeys(("east", "north", "west"), START)
TWO = dict.fromkeys(("east", "west"), START)
ONE, AGAINST, ASIDE = (torch.tensor(each) for each in ([1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]))


def update(site, middle, end, n_train=1):
    change = {"middle.a": middle, "end.b": end}
    return Update(
        site, {name: tensor for name, tensor in change.items() if tensor is not None}, n_train, None
    )


def combine(*updates, memory=None, states=STATES, **changes):
    algorithm = Clustered(**{"conflict": 0.2, "memory": 0.0} | changes)
    return algorithm.combine(states, updates, {} if memory is None else memory)


def test_sites_that_agree_get_one_mean():
    updates = (update("east", ONE, ONE), update("north", ONE, ASIDE), update("west", ASIDE, ONE, n_train=2))
    combined = combine(*updates)
    assert combined["east"] is combined["north"] is combined["west"]
    mean = FedAvg().combine(STATES, updates, {})["east"]
    assert all(torch.equal(combined["east"][name], mean[name]) for name in START)


def test_a_site_that_pulls_against_the_others_learns_that_part_alone():
    combined = combine(
        update("east", ONE, ONE), update("north", AGAINST, ONE), update("west", ONE, ONE, n_train=3)
    )
    assert combined["east"] is combined["west"]
    assert combined["east"]["middle.a"].tolist() == [1.0, 0.0]
    assert combined["north"]["middle.a"].tolist() == [-1.0, 0.0]
    # The part on which all agree is still the mean of all, and one tensor.
    assert combined["north"]["end.b"] is combined["east"]["end.b"]
    assert combined["north"]["end.b"].tolist() == [1.0, 0.0]


def test_who_has_parted_stays_apart():
    memory = {}
    combined = combine(update("east", ONE, ONE), update("west", AGAINST, ONE), memory=memory, states=TWO)
    again = combine(update("east", ONE, ONE), update("west", ONE, ONE), memory=memory, states=combined)
    assert (again["east"]["middle.a"].tolist(), again["west"]["middle.a"].tolist()) == (
        [2.0, 0.0],
        [0.0, 0.0],
    )


def test_a_mean_over_rounds_decides():
    memory, states = {}, TWO
    pulls = [(update("east", ONE, ONE), update("west", end, ONE)) for end in (ONE, AGAINST, AGAINST)]
    apart = []
    for updates in pulls:
        states = Clustered(conflict=0.2, memory=0.8).combine(states, updates, memory)
        apart.append(states["east"] is not states["west"])
    # .2, −.04, −.232: the third round decides.
    assert apart == [False, False, True]


def test_sites_that_are_joined_through_another_stay_together():
    middle = torch.tensor([0.0, 1.0])
    combined = combine(update("east", ONE, ONE), update("north", middle, ONE), update("west", AGAINST, ONE))
    assert combined["east"] is combined["north"] is combined["west"]


def test_who_is_absent_or_keeps_a_part_at_home_goes_on_with_its_cluster():
    memory = {}
    combined = combine(update("east", ONE, ONE), update("west", AGAINST, ONE), memory=memory)
    assert combined["north"]["middle.a"].tolist() == [0.0, 0.0], "joined with both, so all are one cluster"
    again = combine(
        update("east", ONE, ONE), update("north", ONE, None), update("west", AGAINST, ONE), memory=memory
    )
    assert again["north"]["middle.a"].tolist() == again["east"]["middle.a"].tolist() == [1.0, 0.0]
    assert again["north"]["end.b"].tolist() == [1.0, 0.0]
    assert not any(tensor.isnan().any() for state in again.values() for tensor in state.values())


def test_that_never_parts_is_fedavg_to_the_bit(tmp_path):
    args = {"conflict": 1.0, "memory": 0.8}
    clustered = config_of("weights clustered", algorithm={"name": "clustered", "args": args})
    runs = [
        run_job(config_of("weights fedavg"), tmp_path / "average"),
        run_job(clustered, tmp_path / "never"),
    ]
    assert runs[0].results["rounds"] == runs[1].results["rounds"]
    assert equal_models(*runs)


def test_a_run_tells_who_parted_and_keeps_their_models(tmp_path):
    run = run_job(config_of("weights clustered"), tmp_path)
    told = run.results["rounds"][-1]["clusters"]
    assert told == {"shared": 2}
    names = {path.stem for path in (run.server / "models").glob("*.safetensors")}
    assert names == {"shared-north", "shared-south", "shared-west"}


def test_a_checkpoint_holds_who_shares_with_whom():
    algorithm = Clustered(conflict=0.2, memory=0.0)
    shared = SharedWeights("shared", ["west", "north", "east"], START, algorithm)
    updates = [update("east", ONE, ONE), update("north", AGAINST, ONE), update("west", ONE, ONE)]
    shared.combine(updates)
    other = SharedWeights("shared", ["north", "east", "west"], START, algorithm)
    other.load_state({name: tensor.clone() for name, tensor in shared.state().items()})
    assert [members for members, _ in other.clusters()] == [("east", "west"), ("north",)]
    for each in (shared, other):
        each.combine(updates)
    for site in STATES:
        assert all(torch.equal(shared.weights[site][n], other.weights[site][n]) for n in START)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"conflict": 0.0, "memory": 0.8}, r"conflict must lie in \(0, 1\], not 0.0"),
        ({"conflict": 0.2, "memory": 1.0}, r"memory must lie in \[0, 1\), not 1.0"),
        ({"conflict": 0.2}, "missing key 'algorithm.args.memory'"),
    ],
)
def test_wrong_arguments_are_named(args, message):
    with pytest.raises(ConfigError, match=message):
        make_algorithm(AlgorithmConfig(name="clustered", args=args))
