"""Sites that keep weights of their own and learn how far to follow the others."""

import pytest
import torch
from families import METHODS, config_of
from tiny_job import Federation, run_job

from mucald.config.common import NetworkConfig
from mucald.errors import ConfigError
from mucald.methods.weights.algorithms import make_algorithm
from mucald.methods.weights.algorithms.base import Update
from mucald.methods.weights.algorithms.fedhca import FedHCA
from mucald.methods.weights.config import AlgorithmConfig
from mucald.methods.weights.parts import shared_tensors
from mucald.methods.weights.shared_weights import first_weights
from mucald.nets import BACKBONES, build_backbone

SITES = ("east", "north", "west")
ENCODER, DECODER, LAYER = "middle.a.weight", "back_end.b.weight", "back_end.b"
STATISTIC = "middle.n.running_var"
START = {ENCODER: torch.tensor([1.0, 2.0]), DECODER: torch.tensor([[5.0, -5.0]]), STATISTIC: torch.ones(1)}


def update(site, encoder=(3.0, -4.0), decoder=(1.0, 0.5), n_train=1):
    change = {ENCODER: encoder, DECODER: [decoder], STATISTIC: [0.25]}
    return Update(site, {name: torch.tensor(value) for name, value in change.items()}, n_train, None)


def combine(*updates, memory=None, sites=SITES, states=None, **arguments):
    states = states or dict.fromkeys(sites, START)
    return FedHCA(**arguments).combine(states, updates, {} if memory is None else memory)


def moved(combined, site, name, start=None):
    before = (start or dict.fromkeys(combined, START))[site]
    return (combined[site][name] - before[name]).flatten().tolist()


def test_without_hyper_weights_every_site_goes_on_alone():
    updates = [update("east"), update("north", (0.0, 1.0), (-2.0, 0.0)), update("west", (-1.0, 0.0))]
    combined = combine(*updates, initial=0.0, learning_rate=0.0)
    for each in updates:
        for name, tensor in each.change.items():
            assert moved(combined, each.site, name) == pytest.approx(tensor.flatten().tolist())


def test_the_same_of_a_whole_run(tmp_path):
    args = {"initial": 0.0, "learning_rate": 0.0}
    one = run_job(config_of("weights fedhca", algorithm={"name": "fedhca", "args": args}), tmp_path / "one")
    shared = one.models()
    for site in ("north", "south", "west"):
        state, sent = one.checkpoint(site, 2), shared[f"results/server/models/shared-{site}.safetensors"]
        own = {n.removeprefix("weights.").replace("back_end_0", "back_end"): t for n, t in state.items()}
        for name, tensor in sent.items():
            torch.testing.assert_close(own[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("rescale", "factor"), [(0, 1.4), (1, 1.4 / 1.16), (2, 1.0)])
@pytest.mark.parametrize("sites", [("east",), SITES])
def test_one_site_or_equal_changes_go_further_the_same_way(sites, rescale, factor):
    combined = combine(*map(update, sites), sites=sites, rescale=rescale, initial=0.5)
    for site in sites:
        assert moved(combined, site, ENCODER) == pytest.approx(
            [3.0 * (1 + 0.5 * factor), -4.0 * (1 + 0.5 * factor)]
        )
        assert moved(combined, site, DECODER) == pytest.approx([1.5, 0.75])


def test_with_c_0_the_direction_is_the_mean_and_orthogonal_changes_lean_to_none():
    orthogonal = [update("east", (2.0, 0.0)), update("north", (0.0, 2.0), n_train=9)]
    for c, factor in ((0.0, 1.0), (0.4, 1.4 / 1.16)):
        combined = combine(*orthogonal, c=c, initial=0.1)
        assert moved(combined, "east", ENCODER) == pytest.approx([2 + 0.1 * factor, 0.1 * factor])


def test_a_decoder_takes_of_the_others_what_is_like_its_own():
    keys = torch.tensor([[4.0, 0.0], [3.0, 1.0], [-4.0, 2.0]])
    updates = [update(site, decoder=tuple(row)) for site, row in zip(SITES, keys.tolist(), strict=True)]
    combined = combine(*updates, initial=0.5)
    attention = torch.nn.functional.scaled_dot_product_attention(keys, keys, keys)
    for number, site in enumerate(SITES):
        expected = keys[number] + 0.5 * attention[number]
        assert moved(combined, site, DECODER) == pytest.approx(expected.tolist(), rel=1e-5)


def test_hyper_weights_follow_what_they_have_weighed_one_round_later():
    memory, rates = (
        {},
        {"learning_rate": 0.02, "momentum": 0.5, "weight_decay": 0.1, "initial": 0.3, "c": 0.0},
    )
    first = [update("east", (1.0, 0.0), (1.0, 0.0)), update("north", (0.0, 2.0), (0.0, 3.0))]
    states = combine(*first, memory=memory, **rates)
    mean = torch.tensor([0.5, 1.0])
    keys = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    attended = torch.nn.functional.scaled_dot_product_attention(keys, keys, keys)
    alpha = beta = 0.3
    velocity = [0.0, 0.0]
    for change in ((2.0, 1.0), (-1.0, 0.5)):
        second = [update("east", change, change), first[1]]
        row = torch.tensor(change)
        gains = float(row @ mean), float(row @ attended[0])
        velocity = [
            0.5 * v + (-gain + 0.1 * weight)
            for v, gain, weight in zip(velocity, gains, (alpha, beta), strict=True)
        ]
        alpha, beta = alpha - 0.02 * velocity[0], beta - 0.02 * velocity[1]
        before, states = states, combine(*second, memory=memory, states=states, **rates)
        mean = (row + torch.tensor([0.0, 2.0])) / 2
        keys = torch.stack([row, keys[1]])
        attended = torch.nn.functional.scaled_dot_product_attention(keys, keys, keys)
        found = moved(states, "east", ENCODER, before), moved(states, "east", DECODER, before)
        assert found[0] == pytest.approx((row + alpha * mean).tolist(), rel=1e-4)
        assert found[1] == pytest.approx((row + beta * attended[0]).tolist(), rel=1e-4)
    # West was away: its own stay as they are but for the shared direction.
    assert moved(states, "west", DECODER, before) == [0.0, 0.0]
    assert moved(states, "west", ENCODER, before) == pytest.approx((0.3 * mean).tolist(), rel=1e-4)


@pytest.mark.parametrize(("change", "bound"), [((1e4, 0.0), 1.0), ((-1e4, 0.0), 0.0)])
def test_hyper_weights_lie_between_0_and_1(change, bound):
    memory = {}
    combine(update("east", (1.0, 0.0)), memory=memory)
    combine(update("east", change), memory=memory)
    assert memory["hyper.0.alpha"].item() == bound


def test_statistics_are_each_site_s_own():
    combined = combine(update("east"), update("north"))
    assert combined["east"][STATISTIC].tolist() == [1.25]
    assert combined["west"][STATISTIC].tolist() == [1.0]


@pytest.mark.parametrize("task_adaptation", [False, True])
@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_what_stays_of_a_back_end_is_what_the_number_of_classes_decides(backbone, task_adaptation):
    plan = build_backbone(backbone, features=(8, 16, 32), cut=1, latent_channels=4, norm="instance")
    two, three = ({"back_end": plan.back_end(n)} for n in (2, 3))
    private = {
        f"back_end.{name}"
        for name, tensor in two["back_end"].state_dict().items()
        if tensor.shape != three["back_end"].state_dict()[name].shape
    }
    shared = shared_tensors(two, NetworkConfig.parts, FedHCA())
    assert private
    assert shared.keys() == {f"back_end.{n}" for n in two["back_end"].state_dict()} - private
    network = METHODS["weights fedhca"]["network"] | {"task_adaptation": task_adaptation}
    if backbone == network["backbone"]:
        first = first_weights(config_of("weights fedhca", network=network), NetworkConfig.parts, SITES[1:2])
        assert not any("classify" in name for name in first)
        assert any("adaptation" in name for name in first) is task_adaptation


def test_tasks_of_unlike_classes_share_all_but_their_heads(tmp_path):
    sites = {"north": {"task": "kvasir"}, "south": {"task": "fetal"}}
    federation = Federation(config_of("weights fedhca", sites=sites), tmp_path)
    federation.run()
    results = federation.coordinator.finish()
    assert results["failures"] == []
    assert results["rounds"][-1]["clusters"] == {"shared": 2}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"c": 1.0}, r"c must lie in \[0, 1\), not 1.0"),
        ({"initial": 1.5}, r"initial must lie in \[0, 1\], not 1.5"),
        ({"learning_rate": -1.0}, "learning_rate must not be negative"),
    ],
)
def test_wrong_arguments_are_named(args, message):
    with pytest.raises(ConfigError, match=message):
        make_algorithm(AlgorithmConfig(name="fedhca", args=args))
