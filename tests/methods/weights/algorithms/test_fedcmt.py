"""An update that serves the worst-off site, and its limits."""

import math

import numpy as np
import pytest
import torch
from families import config_of
from tiny_job import equal_models, run_job

from mucald.errors import ConfigError
from mucald.methods.weights.algorithms import make_algorithm
from mucald.methods.weights.algorithms.base import Update
from mucald.methods.weights.algorithms.fedcmt import FedCMT, block_of
from mucald.methods.weights.algorithms.fedopt import FedOpt
from mucald.methods.weights.algorithms.server_optimiser import ServerOptimiser
from mucald.methods.weights.config import AlgorithmConfig
from mucald.randomness import normal

SITES = ("east", "north", "west")
AVERAGING = ServerOptimiser("sgd", learning_rate=1.0, momentum=0.0)
CONFLICTS = [
    ([4.0, 1.0], [-1.0, 1.0], [0.5, -2.0]),
    ([1.0, 0.0], [-0.2, 0.7], [1.0, 1.0]),
    ([1.0, 0.2], [-1.0, 0.3], [0.1, 0.1]),
]


def update_of(*changes, c=0.4, rescale=0, sizes=None, per="network"):
    """Return the update of sites that change one or more tensors so."""
    names = [f"middle.entry.{number}.w" for number in range(len(changes[0]))]
    updates = [
        Update(site, dict(zip(names, map(torch.tensor, change), strict=True)), size, None)
        for site, change, size in zip(SITES, changes, sizes or [1] * len(changes), strict=False)
    ]
    start = {name: torch.zeros_like(updates[0].change[name]) for name in names}
    rule = FedCMT(c, AVERAGING, rescale, per)
    combined = rule.combine(dict.fromkeys(SITES, start), updates, {})
    assert combined["east"] is combined["west"]
    return [combined["east"][name].tolist() for name in names]


def one(*changes, **more):
    return update_of(*([change] for change in changes), **more)[0]


def test_with_c_0_it_is_fedopt_to_the_bit(tmp_path):
    optimiser = {"name": "yogi", "learning_rate": 0.01, "rounds": 2}
    runs = [
        run_job(config_of("weights fedcmt", algorithm={"name": name, "args": args}), tmp_path / name)
        for name, args in (
            ("fedcmt", {"c": 0.0, "optimiser": optimiser}),
            ("fedopt", {"optimiser": optimiser}),
        )
    ]
    assert runs[0].results["rounds"] == runs[1].results["rounds"]
    assert equal_models(*runs)


@pytest.mark.parametrize(("rescale", "factor"), [(0, 1.4), (1, 1.4 / 1.16), (2, 1.0)])
def test_one_site_equal_updates_and_orthogonal_ones_are_the_mean_up_to_a_factor(rescale, factor):
    change = [3.0, -4.0]
    assert one(change, rescale=rescale) == pytest.approx([factor * x for x in change])
    assert one(change, change, change, rescale=rescale) == pytest.approx([factor * x for x in change])
    found = one([2.0, 0.0], [0.0, 2.0], rescale=rescale)
    assert found == pytest.approx([factor, factor])


@pytest.mark.parametrize("c", [0.2, 0.4, 0.9])
@pytest.mark.parametrize("changes", CONFLICTS)
def test_no_update_as_near_to_the_mean_serves_the_worst_site_better(changes, c):
    sizes = [3, 1, 2]
    mean = np.average(changes, axis=0, weights=sizes)
    directions = np.array(changes) / np.linalg.norm(changes, axis=1, keepdims=True)
    found = np.array(one(*changes, c=c, sizes=sizes))
    radius = c * np.linalg.norm(mean)
    assert np.linalg.norm(found - mean) == pytest.approx(radius, rel=1e-5)
    angles = np.linspace(0, 2 * math.pi, 20001)
    others = mean + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    best = (others @ directions.T).min(axis=1).max()
    assert (directions @ found).min() >= best - 1e-5
    assert (directions @ found).min() > (directions @ mean).min() + 0.01


def test_a_site_that_hardly_moves_is_not_served_for_its_length():
    """East moves a thousandth of north, but its direction is served well; west's is not."""
    found = one([0.001, 0.0], [1.0, 0.0], [0.0, 0.5])
    mean = [1.001 / 3, 0.5 / 3]
    assert found[0] == pytest.approx(mean[0], abs=1e-4)
    assert found[1] - mean[1] == pytest.approx(0.4 * math.hypot(*mean), rel=1e-3)


def test_sites_without_a_direction_are_passed_over():
    assert one([0.0, 0.0], [3.0, -4.0]) == pytest.approx([1.4 * 1.5, 1.4 * -2.0])
    assert one([0.0, 0.0], [0.0, 0.0]) == [0.0, 0.0]
    assert one([1.0, 0.0], [-1.0, 0.0]) == [0.0, 0.0], "a mean of nothing leaves no room"


def test_blocks_are_corrected_by_themselves():
    first, second = ([4.0, 1.0], [-1.0, 1.0]), ([1.0, 2.0], [3.0, -1.0])
    apart = update_of(*zip(first, second, strict=True), per="block")
    assert apart == [pytest.approx(one(*first)), pytest.approx(one(*second))]
    together = update_of(*zip(first, second, strict=True))
    assert together != [pytest.approx(each) for each in apart]
    flat = one(*([*a, *b] for a, b in zip(first, second, strict=True)))
    assert [x for each in together for x in each] == pytest.approx(flat, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("middle.encoder.0.1.conv.weight", "middle.encoder.0"),
        ("front_end.to_latent.weight", "front_end.to_latent"),
        ("back_end.classify.bias", "back_end.classify"),
    ],
)
def test_a_block_is_one_level_of_the_network(name, block):
    assert block_of(name) == block


def test_statistics_are_averaged_and_what_a_site_keeps_counts_as_unchanged():
    start = {"middle.a": torch.zeros(3), "middle.b": torch.zeros(2), "middle.norm.running_var": torch.ones(1)}
    changes = {site: {name: normal(t.shape, site, name) for name, t in start.items()} for site in SITES}
    del changes["west"]["middle.b"]
    updates = [Update(site, change, 1, None) for site, change in changes.items()]
    rule = FedCMT(0.4, AVERAGING, 2)
    found = rule.combine(dict.fromkeys(SITES, start), updates, {})["north"]
    plain = FedOpt(AVERAGING).combine(dict.fromkeys(SITES, start), updates, {})["north"]
    assert torch.equal(found["middle.norm.running_var"], plain["middle.norm.running_var"])
    assert not torch.allclose(found["middle.b"], plain["middle.b"])
    assert all(tensor.isfinite().all() for tensor in found.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c": 1.0}, r"c must lie in \[0, 1\), not 1.0"),
        ({"rescale": 3}, r"'algorithm.args.rescale' must be one of \[0, 1, 2\]"),
        ({"per": "layer"}, "'algorithm.args.per' must be one of"),
        ({"optimiser": {"name": "sgd"}}, "missing key 'algorithm.args.optimiser.learning_rate'"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    args = {"c": 0.4, "optimiser": {"name": "sgd", "learning_rate": 1.0}} | changes
    with pytest.raises(ConfigError, match=message):
        make_algorithm(AlgorithmConfig(name="fedcmt", args=args))
