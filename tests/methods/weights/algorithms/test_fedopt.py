"""A server's optimiser follows the sites' mean change."""

import math

import pytest
import torch
from families import config_of
from tiny_job import run_job

from mucald.errors import ConfigError
from mucald.methods.weights.algorithms import make_algorithm
from mucald.methods.weights.algorithms.base import Update
from mucald.methods.weights.algorithms.fedavg import FedAvg
from mucald.methods.weights.algorithms.fedopt import FedOpt
from mucald.methods.weights.algorithms.server_optimiser import STATISTICS, ServerOptimiser
from mucald.methods.weights.config import AlgorithmConfig
from mucald.methods.weights.shared_weights import SharedWeights
from mucald.nets import BACKBONES, build_backbone

START = {"middle.a": torch.tensor([1.0, -2.0]), "middle.norm.running_var": torch.tensor([3.0])}
STATES = dict.fromkeys(("north", "south"), START)
CHANGES = ([1.0, -0.5], [0.5, 0.25], [-1.0, 0.0])


def update(site="north", n_train=1, a=(1.0, -0.5), variance=-2.5):
    change = {"middle.a": torch.tensor(a), "middle.norm.running_var": torch.tensor([variance])}
    return Update(site, change, n_train, None)


def fedopt(name="sgd", rate=1.0, momentum=0.0, **more):
    return FedOpt(ServerOptimiser(name, learning_rate=rate, momentum=momentum, **more))


def path(algorithm, memory=None, changes=CHANGES):
    """Return where the weights lie after each round of one site with these changes."""
    states, memory, found = dict.fromkeys(("north",), START), {} if memory is None else memory, []
    for change in changes:
        states = algorithm.combine(states, [update(a=change)], memory)
        found.append(states["north"]["middle.a"].tolist())
    return found


def test_a_rate_of_one_without_momentum_is_fedavg_but_for_rounding():
    updates = [update(n_train=3), update("south", a=(0.0, 4.0))]
    found, mean = (each.combine(STATES, updates, {})["south"] for each in (fedopt(), FedAvg()))
    assert torch.allclose(found["middle.a"], mean["middle.a"], rtol=1e-6)
    assert torch.equal(found["middle.norm.running_var"], mean["middle.norm.running_var"])


def test_the_same_of_a_whole_run(tmp_path):
    args = {"optimiser": {"name": "sgd", "learning_rate": 1.0, "momentum": 0.0}}
    one = run_job(config_of("weights fedopt", algorithm={"name": "fedopt", "args": args}), tmp_path / "one")
    average = run_job(config_of("weights fedavg"), tmp_path / "average")
    for mine, other in zip(one.results["rounds"], average.results["rounds"], strict=True):
        assert mine["update_norm"] == pytest.approx(other["update_norm"], rel=1e-4)
        for site, numbers in mine["sites"].items():
            assert numbers["losses"] == pytest.approx(other["sites"][site]["losses"], rel=1e-3)


def test_momentum_goes_on_from_round_to_round():
    velocity, weights, expected = [0.0, 0.0], START["middle.a"].tolist(), []
    for change in CHANGES:
        velocity = [0.6 * v + c for v, c in zip(velocity, change, strict=True)]
        weights = [w + 0.5 * v for w, v in zip(weights, velocity, strict=True)]
        expected.append(weights)
    for found, wanted in zip(path(fedopt(rate=0.5, momentum=0.6)), expected, strict=True):
        assert found == pytest.approx(wanted)


@pytest.mark.parametrize("name", ["adam", "yogi"])
def test_adaptive_steps_are_those_of_their_formula(name):
    rate, first, second, epsilon, paths = 0.1, 0.9, 0.7, 0.01, []
    for number in range(2):
        weight, mean, squares = START["middle.a"][number].item(), 0.0, 0.0
        paths.append([])
        for step, change in enumerate((c[number] for c in CHANGES), start=1):
            mean = first * mean + (1 - first) * change
            if name == "adam":
                squares = second * squares + (1 - second) * change**2
            else:
                squares -= (1 - second) * math.copysign(change**2, squares - change**2)
            root = math.sqrt(squares / (1 - second**step))
            weight += rate * mean / (1 - first**step) / (root + epsilon)
            paths[-1].append(weight)
    expected = [list(pair) for pair in zip(*paths, strict=True)]
    found = path(fedopt(name, rate, first, second_momentum=second, epsilon=epsilon))
    assert [number for pair in found for number in pair] == pytest.approx(
        [number for pair in expected for number in pair], rel=1e-5
    )


def test_a_tensor_that_nobody_sends_stays_whatever_the_momentum():
    algorithm, memory = fedopt("adam", 0.1, 0.9), {}
    states = algorithm.combine(STATES, [update()], memory)
    kept = states["north"]["middle.a"]
    unsent = Update("north", {"middle.norm.running_var": torch.tensor([1.0])}, 1, None)
    assert torch.equal(algorithm.combine(states, [unsent], memory)["north"]["middle.a"], kept)


@pytest.mark.parametrize("name", ["sgd", "adam", "yogi"])
def test_running_statistics_are_averaged_and_never_stepped(name):
    combined = fedopt(name, 5.0, 0.9).combine(STATES, [update()], {})["north"]
    assert combined["middle.norm.running_var"].tolist() == [0.5]
    assert not torch.equal(combined["middle.a"], START["middle.a"])


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_networks_have_no_other_floating_point_buffers(backbone):
    plan = build_backbone(backbone, features=(8, 16, 32), cut=1, latent_channels=4, norm="batch")
    found = {
        name.rpartition(".")[2]
        for module in (plan.front_end(), plan.middle(), plan.back_end(2))
        for name, buffer in module.named_buffers()
        if buffer.is_floating_point()
    }
    assert found == set(STATISTICS)


def test_the_rate_falls_as_torch_s_does_and_then_stays():
    optimiser = ServerOptimiser("sgd", learning_rate=1.0, rounds=4, lowest_rate=0.2)
    reference = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(reference, T_max=4, eta_min=0.2)
    for done in range(5):
        assert optimiser.rate(done) == pytest.approx(schedule.get_last_lr()[0])
        reference.step()
        schedule.step()
    assert optimiser.rate(9) == pytest.approx(0.2)
    steps = path(fedopt(rounds=2, lowest_rate=0.0), changes=[[1.0, 0.0]] * 3)
    assert [step[0] for step in steps] == pytest.approx([2.0, 2.5, 2.5])


@pytest.mark.parametrize("name", ["sgd", "adam", "yogi"])
def test_a_checkpoint_holds_the_optimiser(name):
    algorithm = fedopt(name, 0.5, 0.6, rounds=3)
    shared, other = (SharedWeights("shared", ["north"], START, algorithm) for _ in range(2))
    shared.combine([update()])
    other.load_state({key: tensor.clone() for key, tensor in shared.state().items()})
    for each in (shared, other):
        each.combine([update(a=(0.0, 1.0))])
    ends = [each.weights["north"]["middle.a"] for each in (shared, other)]
    assert torch.equal(*ends)
    fresh = SharedWeights("shared", ["north"], {**START, "middle.a": ends[0]}, algorithm)
    fresh.combine([update()])
    assert not torch.allclose(fresh.weights["north"]["middle.a"] - ends[0], ends[0] - START["middle.a"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "adan"}, r"'algorithm.args.optimiser.name' must be one of .*did you mean 'adam'"),
        ({"learning_rate": 0.0}, r"'algorithm.args.optimiser': learning_rate must be above 0, not 0.0"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), not 1.0"),
        ({"epsilon": 0.0}, "epsilon must be above 0"),
        ({"rounds": -1}, "rounds must not be negative"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    args = {"optimiser": {"name": "adam", "learning_rate": 0.1} | changes}
    with pytest.raises(ConfigError, match=message):
        make_algorithm(AlgorithmConfig(name="fedopt", args=args))
