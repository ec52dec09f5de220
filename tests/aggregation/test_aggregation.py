import dataclasses
import itertools

import pytest
import torch
from next_states import next_states

from mucald.aggregation import RULES, Contribution, WeightedMean, make_rule
from mucald.errors import ConfigError, TrainingError
from mucald.randomness import normal

ARGUMENTS = {
    "causal_invariant": {"floor": 0.25, "mixing": 0.5},
    "conflict_averse": {"c": 0.5},
    "interpolated": {
        "toward": {"rule": "equal", "args": {}},
        "factors": [0, 0.5, 1],
        "blocks": {"all": ["weight", "bias"]},
    },
    "fedbone": {"learning_rate": 1.0, "momentum": 0.0},
}
MEANS = [name for name in RULES if issubclass(RULES[name], WeightedMean)]
SITES = ("ankara", "berlin", "cairo")


def rule(name):
    return make_rule(name, ARGUMENTS.get(name, {}))


def state(site):
    return {"weight": normal((3, 4), site, "weight"), "bias": normal((4,), site, "bias")}


def start(*sites):
    return {site: state(f"{site} before") for site in sites or SITES}


def three_contributions():
    numbers = ((10, 0.5, 1.0), (30, 0.25, 2.0), (60, 1.0, 0.5))
    return [Contribution(s, state(s), *n) for s, n in zip(SITES, numbers, strict=True)]


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def test_equal_is_the_plain_mean():
    result = next_states(rule("equal"), start(), three_contributions())
    for name in ("weight", "bias"):
        expected = torch.stack([state(site)[name].double() for site in SITES]).mean(dim=0).float()
        torch.testing.assert_close(result["berlin"][name], expected, rtol=1e-7, atol=1e-8)


def test_by_size_weighs_by_training_images():
    result = next_states(rule("by_size"), start(), three_contributions())
    first, second, third = (state(site)["weight"].double() for site in SITES)
    expected = (0.1 * first + 0.3 * second + 0.6 * third).float()
    torch.testing.assert_close(result["ankara"]["weight"], expected, rtol=1e-6, atol=1e-7)


def test_causal_invariant_by_hand():
    # n / (mse * loss): 10 / (1 * .5) = 20, 30 / (2 * .25) = 60, 60 / (.5 * 1) = 120
    weights = rule("causal_invariant").weights(three_contributions())
    shares = [0.1, 0.3, 0.6]
    assert weights == pytest.approx([0.5 * (w + 0.25 / 3) / 1.25 + 0.5 / 3 for w in shares], rel=1e-6)


def test_causal_invariant_without_floor_and_mixing_is_the_score_itself():
    bare = make_rule("causal_invariant", {"floor": 0, "mixing": 0})
    assert bare.weights(three_contributions()) == pytest.approx([0.1, 0.3, 0.6], rel=1e-6)


def test_causal_invariant_fully_mixed_is_equal():
    mixed = make_rule("causal_invariant", {"floor": 0.25, "mixing": 1.0})
    assert mixed.weights(three_contributions()) == [1 / 3] * 3


def test_causal_invariant_before_any_validation_is_equal():
    first_round = [dataclasses.replace(c, validation_loss=None) for c in three_contributions()]
    assert rule("causal_invariant").weights(first_round) == [1 / 3] * 3


def test_causal_invariant_takes_the_worst_for_what_is_unknown():
    bare = make_rule("causal_invariant", {"floor": 0.0, "mixing": 0.0})
    first, second, third = three_contributions()
    unknown = (
        dataclasses.replace(first, proxy_mse=None),
        dataclasses.replace(second, validation_loss=None),
        third,
    )
    known = (
        dataclasses.replace(first, proxy_mse=10.0),
        dataclasses.replace(second, validation_loss=1.0),
        third,
    )
    assert bare.weights(unknown) == bare.weights(known)


def test_causal_invariant_bounds_the_gain_of_a_tiny_proxy_error():
    bare = make_rule("causal_invariant", {"floor": 0.0, "mixing": 0.0})
    first, *rest = three_contributions()
    at_floor, below = (dataclasses.replace(first, proxy_mse=mse) for mse in (1e-3, 0.0))
    assert bare.weights([at_floor, *rest]) == bare.weights([below, *rest])


@pytest.mark.parametrize("name", MEANS)
def test_weights_sum_to_one(name):
    assert sum(rule(name).weights(three_contributions())) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("name", RULES)
def test_the_order_of_contributions_changes_no_bit(name):
    # In float64, where nothing rounds away the last bits of a sum in another order.
    contributions = [
        dataclasses.replace(c, state={key: tensor.double() for key, tensor in c.state.items()})
        for c in three_contributions()
    ]
    results = [next_states(rule(name), start(), order) for order in itertools.permutations(contributions)]
    for result in results[1:]:
        for site in SITES:
            assert_equal(result[site], results[0][site])


@pytest.mark.parametrize("name", RULES)
def test_a_single_contributor_keeps_its_own_state(name):
    only = three_contributions()[0]
    result = next_states(rule(name), start(only.site), [only])
    assert_equal(result[only.site], only.state)


@pytest.mark.parametrize("name", MEANS)
def test_a_failed_site_gets_the_mean_of_the_others(name):
    first, second, _ = three_contributions()
    result = next_states(rule(name), start(), [first, second])
    weights = rule(name).weights([first, second])
    expected = (
        weights[0] * first.state["weight"].double() + weights[1] * second.state["weight"].double()
    ).float()
    assert result.keys() == set(SITES)
    for site in SITES:
        torch.testing.assert_close(result[site]["weight"], expected)


def test_local_keeps_every_copy_apart():
    first, second, _ = three_contributions()
    before = start()
    result = next_states(rule("local"), before, [first, second])
    assert_equal(result["ankara"], first.state)
    assert_equal(result["berlin"], second.state)
    assert_equal(result["cairo"], before["cairo"])


@pytest.mark.parametrize("name", ["equal", "conflict_averse"])
def test_a_state_for_all_sites_is_held_once_and_shares_no_memory_with_what_it_is_made_of(name):
    contributions = three_contributions()
    result = next_states(rule(name), start(), contributions)
    assert result["ankara"]["weight"] is result["berlin"]["weight"]
    made_of = {tensor.data_ptr() for c in contributions for tensor in c.state.values()}
    assert not made_of & {tensor.data_ptr() for tensor in result["ankara"].values()}


def test_inputs_are_left_alone():
    contributions, before = three_contributions(), start()
    next_states(rule("equal"), before, contributions)
    for contribution in contributions:
        assert_equal(contribution.state, state(contribution.site))
        assert_equal(before[contribution.site], state(f"{contribution.site} before"))


def test_the_mean_is_summed_in_double_precision():
    """1e8 + 1 - 1e8 is 0 in float32."""
    values = {"a": 1e8, "b": 1.0, "c": -1e8}
    contributions = [Contribution(site, {"x": torch.tensor([value])}, 1) for site, value in values.items()]
    result = next_states(rule("equal"), {site: {} for site in values}, contributions)["a"]["x"]
    assert result.dtype == torch.float32
    assert result.item() == pytest.approx(1 / 3, abs=1e-7)


def replaced(index, **tensors):
    contributions = three_contributions()
    changed = {k: v for k, v in (contributions[index].state | tensors).items() if v is not None}
    contributions[index] = dataclasses.replace(contributions[index], state=changed)
    return contributions


@pytest.mark.parametrize(
    ("contributions", "message"),
    [
        (lambda: [], "no site contributed"),
        (lambda: three_contributions() + three_contributions()[:1], "'ankara' contributed 2 times"),
        (lambda: [Contribution("delhi", state("delhi"), 1)], "'delhi' contributed but did not start"),
        (lambda: replaced(1, bias=None), "'berlin' and 'ankara' do not both have the tensor 'bias'"),
        (lambda: replaced(2, bias=torch.zeros(5)), r"'bias' is torch.float32 \(5,\) at site 'cairo'"),
        (lambda: replaced(2, bias=torch.zeros(4).double()), "'bias' is torch.float64"),
        (lambda: replaced(0, bias=torch.zeros(4).long()), "'bias' of site 'ankara' is torch.int64"),
        (lambda: replaced(1, bias=torch.full((4,), torch.nan)), "'bias' of site 'berlin' is not finite"),
    ],
)
@pytest.mark.parametrize("name", RULES)
def test_contributions_that_do_not_fit(name, contributions, message):
    with pytest.raises(TrainingError, match=message):
        next_states(rule(name), start(), contributions())


@pytest.mark.parametrize("numbers", [{"n_train": 0}, {"validation_loss": float("nan")}, {"proxy_mse": -1.0}])
def test_contributions_with_impossible_numbers(numbers):
    (name,) = numbers
    with pytest.raises(TrainingError, match=f"{name} of site 'ankara'"):
        Contribution("ankara", {}, **({"n_train": 1} | numbers))


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("causal_invarient", {}, "did you mean 'causal_invariant'"),
        ("equal", {"floor": 0.1}, "unknown key 'aggregation.args.floor'"),
        ("causal_invariant", {"flor": 0.25, "mixing": 0.5}, "did you mean 'floor'"),
        ("causal_invariant", {"floor": 0.25}, "missing key 'aggregation.args.mixing'"),
        ("causal_invariant", {"floor": "0.25", "mixing": 0.5}, "must be of type float"),
        ("causal_invariant", {"floor": -0.1, "mixing": 0.5}, "floor must not be negative"),
        ("causal_invariant", {"floor": 0.25, "mixing": 1.5}, r"mixing must lie in \[0, 1\]"),
    ],
)
def test_wrong_configuration(name, args, message):
    with pytest.raises(ConfigError, match=message):
        make_rule(name, args)
