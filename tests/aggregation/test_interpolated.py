import pytest
import torch
from next_states import next_states

from mucald.aggregation import Contribution, make_rule
from mucald.errors import ConfigError
from mucald.randomness import normal

BLOCKS = {"encoder": ["middle", "crdm1"], "decoder": ["middle.decoder"]}
NAMES = ("middle.entry.weight", "middle.decoder.0.weight", "crdm1.encoder.weight", "middle.decoder_x")
OF_DECODER = NAMES[1]
SITES = ("ankara", "berlin")


def rule(factors=(0, 0.5, 1), blocks=BLOCKS, toward="equal", **args):
    arguments = {"toward": {"rule": toward, "args": args}, "factors": list(factors), "blocks": blocks}
    return make_rule("interpolated", arguments)


def state(site):
    return {name: normal((5,), site, name) for name in NAMES}


def contributions(chosen=None, sites=SITES):
    return [Contribution(site, state(site), 1, factors=(chosen or {}).get(site, {})) for site in sites]


def start():
    return {site: state(f"{site} before") for site in SITES}


def factors_of(found, site="ankara"):
    return [tuple(factors.values()) for factors in found[site].factors]


def test_at_first_all_blocks_move_together_and_the_nearest_comes_first():
    found = rule().candidates(start(), contributions(), {})
    assert factors_of(found) == [(0, 0), (0.5, 0.5), (1, 1)]
    mean = next_states(make_rule("equal", {}), start(), contributions())["ankara"]
    for name, own in state("ankara").items():
        alone, half, shared = (found["ankara"].state(number)[name] for number in range(3))
        assert torch.equal(alone, own)
        assert torch.equal(shared, mean[name])
        torch.testing.assert_close(half, (own + mean[name]) / 2)


def test_then_one_block_moves_at_a_time_the_others_stay_and_alone_is_always_offered():
    memory = {}
    rule().candidates(start(), contributions(), memory)
    chosen = {"ankara": {"encoder": 0.5, "decoder": 0.5}, "berlin": {"encoder": 0.0, "decoder": 0.0}}
    found = rule().candidates(start(), contributions(chosen), memory)
    assert factors_of(found) == [(0, 0), (0, 0.5), (0.5, 0.5), (1, 0.5)]
    assert factors_of(found, "berlin") == [(0, 0), (0.5, 0), (1, 0)]
    chosen["ankara"]["encoder"] = 1.0
    found = rule().candidates(start(), contributions(chosen), memory)
    assert factors_of(found) == [(0, 0), (1, 0), (1, 0.5), (1, 1)]
    found = rule().candidates(start(), contributions(chosen), memory)
    assert factors_of(found) == [(0, 0), (0.5, 0.5), (1, 0.5), (1, 1)], "all again, and what it has"


def test_until_a_state_is_asked_for_nothing_is_held_but_the_two_that_it_lies_between():
    of_ankara, of_berlin = rule().candidates(start(), contributions(), {}).values()
    assert all(of_ankara.shared[name] is of_berlin.shared[name] for name in NAMES)
    assert all(of_ankara.state(0)[name] is of_ankara.own[name] for name in NAMES)
    assert all(of_ankara.state(2)[name] is of_ankara.shared[name] for name in NAMES)


@pytest.mark.parametrize(
    ("factors", "toward", "held"),
    [
        ([1], "equal", 0),
        ([0, 0.5, 1], "equal", 1),
        ([0.25, 0.5], "equal", 2),
        ([0, 1], "fedbone", 2),
        ([0.5, 1], "fedbone", 3),
    ],
)
def test_what_a_site_holds_while_it_chooses_is_known(factors, toward, held):
    args = {"learning_rate": 1.0, "momentum": 0.9} if toward == "fedbone" else {}
    assert rule(factors, toward=toward, **args).held_to_choose == held


def test_the_longest_prefix_of_whole_components_decides_the_block():
    memory = {}
    rule().candidates(start(), contributions(), memory)
    chosen = {site: {"encoder": 0.0, "decoder": 0.0} for site in SITES}
    rule().candidates(start(), contributions(chosen), memory)
    found = rule().candidates(start(), contributions(chosen), memory)
    assert factors_of(found) == [(0, 0), (0, 0.5), (0, 1)]
    changed = {n for n in NAMES if not torch.equal(found["ankara"].state(2)[n], state("ankara")[n])}
    assert changed == {OF_DECODER}


def test_a_site_that_failed_keeps_its_own_state_and_what_it_chose_before():
    memory = {}
    rule().candidates(start(), contributions(), memory)
    chosen = {site: {"encoder": 0.5, "decoder": 1.0} for site in SITES}
    found = rule().candidates(start(), contributions(chosen, SITES[:1]), memory)
    assert factors_of(found, "berlin") == [(0, 0), (0.5, 0.5), (1, 1)], "it has not chosen yet"
    own, shared = found["berlin"].state(0), found["berlin"].state(2)
    for name in NAMES:
        assert torch.equal(own[name], state("berlin before")[name])
        assert torch.equal(shared[name], state("ankara")[name])


@pytest.mark.parametrize(("factor", "same_as"), [(0, "local"), (1, "equal")])
def test_a_single_factor_leaves_no_choice(factor, same_as):
    found = rule([factor]).candidates(start(), contributions(sites=SITES[:1]), {})
    expected = next_states(make_rule(same_as, {}), start(), contributions(sites=SITES[:1]))
    for site in SITES:
        assert len(found[site]) == 1
        only = found[site].state(0)
        assert all(torch.equal(tensor, expected[site][name]) for name, tensor in only.items())


def test_the_shared_state_is_that_of_the_rule_it_names():
    found = rule(toward="conflict_averse", c=0.5).candidates(start(), contributions(), {})
    expected = next_states(make_rule("conflict_averse", {"c": 0.5}), start(), contributions())["berlin"]
    assert all(torch.equal(found["berlin"].state(2)[name], expected[name]) for name in NAMES)


def test_the_memory_decides_all_that_is_offered():
    memory = {}
    rule().candidates(start(), contributions(), memory)
    chosen = {site: {"encoder": 0.5, "decoder": 0.5} for site in SITES}
    kept = {name: tensor.clone() for name, tensor in memory.items()}
    one, other = (rule().candidates(start(), contributions(chosen), m) for m in (memory, kept))
    assert factors_of(one) == factors_of(other)
    assert memory.keys() == kept.keys() == {f"{n}.{s}" for n in ("factors", "choices") for s in SITES}


def test_blocks_without_a_tensor_take_no_turn():
    few = {"encoder": ["middle", "crdm1"], "second": ["crdm2"]}
    memory = {}
    found = rule(blocks=few).candidates(start(), contributions(), memory)
    assert all(factors.keys() == {"encoder"} for factors in found["ankara"].factors)


def test_a_tensor_without_a_block_is_named_before_the_run():
    with pytest.raises(ConfigError, match=r"no block for the tensor 'crdm1\.encoder\.weight'; add 'crdm1'"):
        rule(blocks={"middle": ["middle"]}).check(NAMES)
    rule().check(NAMES)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"factors": []}, "one or more ascending numbers"),
        ({"factors": [0.5, 0]}, "one or more ascending numbers"),
        ({"factors": [0, 1.5]}, r"factors must lie in \[0, 1\]"),
        ({"toward": "interpolated"}, "another rule than 'interpolated'"),
        ({"toward": "equel"}, "did you mean 'equal'"),
        ({"toward": "conflict_averse"}, "missing key 'aggregation.args.toward.args.c'"),
        ({"blocks": {"a": ["middle"], "b": ["middle"]}}, "the prefix 'middle' twice"),
    ],
)
def test_wrong_arguments(args, message):
    with pytest.raises(ConfigError, match=message):
        rule(**args)
