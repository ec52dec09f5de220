"""States to choose between, from the aggregation that offers them to the site that validates them."""

import pytest
import torch
from stopped import RESUMED, run_until
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_job import (
    BATCH,
    CPU,
    LATENT,
    PLAIN,
    Federation,
    draw,
    equal_models,
    equal_tensors,
    make_copy,
    request,
    run_job,
    server_of,
    tiny_config,
)

from mucald.aggregation import Candidates
from mucald.errors import ConfigError, WireError
from mucald.methods.split.server.state_choice import StateChoice
from mucald.methods.split.site.exchange import Exchange
from mucald.methods.split.wire.messages import Field, Kind, Message, Phase, decode

BLOCKS = {"encoder": ["crdm1", "middle"], "decoder": ["middle.decoder", "middle.to_features", "crdm2"]}
LEVEL = torch.full((BATCH,), 300)


def interpolated(*factors, toward="equal", **args):
    arguments = {"toward": {"rule": toward, "args": args}, "factors": list(factors), "blocks": BLOCKS}
    return {"aggregation": {"rule": "interpolated", "args": arguments}}


CHOICE = tiny_config(interpolated(0, 0.5, 1), training={"rounds": 3})


def scores(run):
    return {site: [entry["validation"], entry["test"]] for site, entry in run.results["sites"].items()}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """A run of three rounds with choices."""
    return run_job(CHOICE, tmp_path_factory.mktemp("chosen"))


@pytest.mark.parametrize(("factor", "rule"), [(0, "local"), (1, "equal")])
def test_with_a_single_factor_it_is_local_or_equal_to_the_bit(factor, rule, tmp_path):
    one = run_job(tiny_config(interpolated(factor)), tmp_path / "one")
    other = run_job(tiny_config(aggregation={"rule": rule}), tmp_path / "other")
    assert equal_models(one, other)
    assert scores(one) == scores(other)
    assert one.results["wire"] == other.results["wire"], "there is nothing to choose, so nothing more crosses"
    factors = [entry["factors"] for entry in one.results["sites"]["south"]["aggregation"]]
    assert factors == [dict.fromkeys(BLOCKS, factor)] * 2
    assert other.results["sites"]["south"]["aggregation"] == []


def test_sites_at_once_and_processes_of_their_own_give_equal_numbers(chosen, tmp_path):
    at_once = run_job(CHOICE, tmp_path / "at once", workers=3)
    assert at_once.numbers() == chosen.numbers()
    assert equal_models(at_once, chosen)
    federation = Federation(CHOICE, tmp_path / "processes", new_process=True)
    federation.run()
    results = federation.coordinator.finish()
    assert results["sites"] == chosen.results["sites"]


@pytest.mark.parametrize(("round_number", "when"), [(0, "after"), (1, "before"), (1, "after"), (3, "before")])
def test_a_stopped_run_ends_with_the_numbers_of_one_never_stopped(round_number, when, chosen, tmp_path):
    run_until(CHOICE, tmp_path, round_number, when)
    resumed = run_job(tiny_config(interpolated(0, 0.5, 1), RESUMED, training={"rounds": 3}), tmp_path)
    assert resumed.results["sites"] == chosen.results["sites"]
    assert equal_models(resumed, chosen)


def test_what_a_site_goes_on_with_is_never_worse_on_its_validation_than_staying_alone(chosen):
    for entry in chosen.results["sites"].values():
        assert [choice["round"] for choice in entry["aggregation"]] == [0, 1, 2]
        for choice, validation in zip(entry["aggregation"], entry["validation"], strict=True):
            assert choice["loss"] == validation["loss"] <= choice["loss_alone"]
            assert set(choice["factors"]) == set(BLOCKS)
    everything = [c for site in chosen.results["sites"].values() for c in site["aggregation"]]
    assert any(any(choice["factors"].values()) for choice in everything), "else nothing was tested"
    assert any(choice["loss"] < choice["loss_alone"] for choice in everything)


def test_the_factors_are_in_tensorboard(chosen):
    events = EventAccumulator(str(chosen.server / "tb_events"))
    events.Reload()
    for site, entry in chosen.results["sites"].items():
        for block in BLOCKS:
            curve = [(event.step, event.value) for event in events.Scalars(f"factor_{block}/{site}")]
            assert curve == [(c["round"] + 1, c["factors"][block]) for c in entry["aggregation"]]


@pytest.mark.parametrize("index", [-1.0, 2.0])
def test_a_site_refuses_a_choice_that_it_was_not_offered(index):
    def answer(request):
        counters = {Field.COUNTERS: torch.tensor([1.0, index], dtype=torch.float64)}
        asked = decode(request)
        return Message(Kind.REPLY, asked.phase, asked.round, asked.step, counters).encode()

    config = tiny_config()
    exchange = Exchange(answer, config, "north", 1)
    with pytest.raises(WireError, match="of 2"):
        exchange.report([(0.5, 1.0), (None, 2.0)])


def test_every_candidates_loss_is_the_one_that_it_has_alone(tmp_path):
    """The first choice lies between the numbers of two runs that have no choice."""
    alone, shared, both = (
        run_job(tiny_config(PLAIN, interpolated(*factors), training={"rounds": 1}), tmp_path / name)
        for name, factors in {"alone": [0], "shared": [1], "both": [0, 1]}.items()
    )
    for site, entry in both.results["sites"].items():
        (choice,) = entry["aggregation"]
        one, other = (run.results["sites"][site]["validation"][0]["loss"] for run in (alone, shared))
        assert choice["loss_alone"] == one
        assert choice["loss"] == min(one, other)


def own_state(copy):
    """Return the networks' own tensors, as the aggregator hands them to a rule."""
    return {n: p.detach() for n, p in copy.segments.named_parameters() if copy.segments.is_shared(n)}


def offer(copy, shared, *factors):
    """Let a copy choose how far to move towards ``shared``, ready for a round."""
    of_all = [{"all": factor} for factor in factors]
    copy.candidates.hold(Candidates(own_state(copy), shared, of_all, dict.fromkeys(shared, "all")))
    copy.begin_round()


def changed_copy(config, site="north"):
    """Return a copy that may choose between its own state and two on the way to another middle network."""
    copy = make_copy(config, site)
    own = own_state(copy)
    shared = {name: tensor + 0.1 if name.startswith("middle.") else tensor for name, tensor in own.items()}
    offer(copy, shared, 0.0, 0.5, 1.0)
    return copy, [{}, {name: torch.lerp(own[name], shared[name], 0.5) for name in own}, shared]


@pytest.mark.parametrize(
    ("losses", "expected"), [([0.1, 0.5, 0.4], 0), ([0.5, 0.4, 0.4], 1), ([0.3, 0.3, 0.3], 0), ([3, 2, 1], 2)]
)
def test_the_least_loss_is_taken_and_of_equals_the_nearest_to_alone(losses, expected):
    copy, states = changed_copy(tiny_config())
    own = {name: tensor.clone() for name, tensor in copy.segments.state_dict().items()}
    assert copy.choose([float(loss) for loss in losses]) == expected
    now = copy.segments.state_dict()
    assert equal_tensors(now, own | states[expected])
    assert equal_tensors(copy.start, {name: now[name] for name in copy.start}), "the round starts from it"
    assert copy.tally.choice == {
        "factors": {"all": expected / 2},
        "loss": losses[expected],
        "loss_alone": losses[0],
    }
    assert len(copy.candidates) == 1
    assert copy.candidates.factors == {"all": expected / 2}


def test_candidates_are_evaluated_side_by_side_each_as_if_alone():
    config = tiny_config()
    copy, _ = changed_copy(config)
    proxies = draw(BATCH, 4), torch.ones(BATCH, 4, dtype=torch.uint8)
    x = draw(*LATENT)
    together = copy.evaluate(1, 0, "validation", x, LEVEL, proxies)
    assert together.shape == (BATCH, 3 * LATENT[1], *LATENT[2:])
    first, second, third = together.split(LATENT[1], dim=1)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    error = copy.tally.proxy_error.mean(0.0)
    copy.choose([1.0, 0.0, 0.0])
    assert copy.tally.proxy_error.mean(0.0) == error, "the encoder reads x_t, before the middle network"
    assert torch.equal(copy.evaluate(1, 0, "validation", x, LEVEL), second)


def test_the_proxy_error_is_that_of_the_state_chosen():
    config = tiny_config()
    errors = []
    for losses in ([0.0, 1.0], [1.0, 0.0]):
        copy = make_copy(config)
        offer(copy, {name: tensor + 0.3 for name, tensor in own_state(copy).items()}, 0.0, 1.0)
        proxies = draw(BATCH, 4), torch.ones(BATCH, 4, dtype=torch.uint8)
        copy.evaluate(1, 0, "validation", draw(*LATENT), LEVEL, proxies)
        copy.choose(losses)
        errors.append(copy.tally.proxy_error.mean(0.0))
    assert errors[0] != errors[1]


@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize(
    "settings", [[(0.25, 1.0), (0.5, 1.0), (1.0, 1.0)], [(0.0, 0.5), (0.0, 1.0), (1.0, 0.5)]]
)
def test_candidates_are_made_of_the_sites_own_state_even_if_that_is_none_of_them(settings, restored):
    """The first of them is in place, so that the site's own state is no longer there."""
    config, x = tiny_config(), draw(*LATENT)
    copy = make_copy(config)
    shared = {name: tensor + 0.3 for name, tensor in own_state(copy).items()}
    block_of = {name: "middle" if name.startswith("middle.") else "rest" for name in shared}
    factors = [dict(zip(("middle", "rest"), setting, strict=True)) for setting in settings]
    offered = Candidates(own_state(copy), shared, factors, block_of)
    states = [{n: t.clone() for n, t in offered.state(number).items()} for number in range(len(offered))]
    copy.candidates.hold(offered)
    copy.segments.load_state_dict(states[0], strict=False)
    if restored:
        tensors, state = copy.state()
        copy = make_copy(config)
        copy.load_state({name: tensor.clone() for name, tensor in tensors.items()}, state)
    copy.begin_round()
    together = copy.evaluate(1, 0, "validation", x, LEVEL).split(LATENT[1], dim=1)
    for features, weights in zip(together, states, strict=True):
        alone = make_copy(config)
        alone.segments.load_state_dict(copy.segments.state_dict() | weights)
        assert torch.equal(features, alone.evaluate(1, 0, "validation", x, LEVEL))
    copy.choose([3.0, 2.0, 1.0])
    assert equal_tensors(own_state(copy), states[2])


def test_choices_restored_from_files_of_their_own_hold_the_common_state_once():
    config = tiny_config()
    tensors, state = changed_copy(config)[0].candidates.state()
    choices = [StateChoice() for _ in range(3)]
    for choice in choices:
        choice.load_state({name: tensor.clone() for name, tensor in tensors.items()}, state, CPU)
    StateChoice.share_equal(choices)
    held = [choice.state()[0] for choice in choices]
    assert all(equal_tensors(of_one, tensors) for of_one in held)
    assert len({tensor.data_ptr() for of_one in held for tensor in of_one.values()}) == len(tensors)


def test_a_choice_between_equal_states_is_written_and_ends_with_the_sites_own(tmp_path):
    """A rule that shares nothing offers the site's own tensors, which no file may hold twice."""
    one = run_job(tiny_config(PLAIN, interpolated(0, 0.5, 1, toward="local")), tmp_path / "one")
    other = run_job(tiny_config(PLAIN, aggregation={"rule": "local"}), tmp_path / "other")
    assert equal_models(one, other)


def test_a_checkpoint_holds_what_there_is_to_choose():
    config = tiny_config()
    copy, _ = changed_copy(config)
    restored = make_copy(config)
    tensors, state = copy.state()
    restored.load_state({name: tensor.clone() for name, tensor in tensors.items()}, state)
    restored.begin_round()
    x = draw(*LATENT)
    assert torch.equal(
        restored.evaluate(1, 0, "validation", x, LEVEL), copy.evaluate(1, 0, "validation", x, LEVEL)
    )
    assert restored.choose([3.0, 2.0, 1.0]) == 2
    assert restored.candidates.factors == {"all": 1.0}


def test_the_server_takes_as_many_scores_as_it_offers_states_and_answers_with_its_choice():
    config = tiny_config()
    copies = {site: make_copy(config, site) for site in config.sites}
    copies["north"], _ = changed_copy(config)
    server = server_of(config, copies)
    server.open_round(1, list(config.sites))
    refused = decode(server.handle("north", request(Phase.REPORT, round_number=1)))
    assert refused.kind is Kind.REJECTION
    assert "COUNTERS has shape (2,), not (6,)" in refused.reason
    counters = torch.tensor([0.9, 1.0, 0.2, 0.5, 0.3, 0.7], dtype=torch.float64)
    reply = decode(server.handle("north", request(Phase.REPORT, round_number=1, counters=counters)))
    assert reply.fields[Field.COUNTERS].tolist() == [1.0, 1.0]
    assert copies["north"].best.dice == 0.2, "the chosen state's, not the highest"
    plain = decode(server.handle("south", request(Phase.REPORT, round_number=1)))
    assert plain.fields[Field.COUNTERS].tolist() == [1.0]


def test_a_site_that_fails_after_its_choice_has_it_before_itself_again(tmp_path):
    config = tiny_config(interpolated(0, 0.5, 1), training={"rounds": 2})
    federation = Federation(config, tmp_path)
    federation.run(1)
    coordinator = federation.coordinator
    before = federation.parameters("north")
    task = federation.open_next()
    for name in config.sites:
        outcome = federation.work(name, task)
        if name == "north":
            coordinator.fail(name, "lost its connection")
        else:
            federation.receive(name, outcome)
    assert len(federation.copies["north"].candidates) == 3
    assert equal_tensors(federation.parameters("north"), before)
    coordinator.close(task)
    choices = coordinator._history.aggregation
    assert {site: len(entries) for site, entries in choices.items()} == {"south": 1, "west": 1}


def test_the_test_needs_no_choice():
    copy, _ = changed_copy(tiny_config())
    copy.load_best()
    assert copy.evaluate(1, 0, "test", draw(*LATENT), LEVEL).shape == LATENT


def test_blocks_that_leave_a_tensor_out_stop_the_job_before_its_first_round(tmp_path):
    args = interpolated(0, 1)["aggregation"]["args"] | {"blocks": {"crdm": ["crdm1", "crdm2"]}}
    config = tiny_config(aggregation={"rule": "interpolated", "args": args})
    with pytest.raises(ConfigError, match=r"no block for the tensor 'middle\."):
        Federation(config, tmp_path)


@pytest.mark.parametrize("backbone", ["unet", "unet3plus", "swin_unet"])
def test_the_blocks_of_the_documents_fit_every_backbone(backbone, tmp_path):
    config = tiny_config(interpolated(0, 1), network={"backbone": backbone})
    federation = Federation(config, tmp_path)
    copy, rule = federation.copies["north"], federation.coordinator.method._aggregator._rule
    names = [name for name, _ in copy.segments.named_parameters() if copy.segments.is_shared(name)]
    assert set(rule._blocks_of(names).values()) == set(BLOCKS)


def test_a_shared_update_that_averts_conflicts_starts_from_what_the_sites_chose(tmp_path):
    """With c = 0 it is the mean of the starts plus the mean update: the mean of what the sites ended with."""
    one, other = (
        run_job(tiny_config(PLAIN, interpolated(0, 0.5, 1, **toward)), tmp_path / name)
        for name, toward in {"one": {"toward": "conflict_averse", "c": 0.0}, "other": {}}.items()
    )
    for site, entry in one.results["sites"].items():
        same = other.results["sites"][site]["aggregation"]
        assert [c["factors"] for c in entry["aggregation"]] == [c["factors"] for c in same]
        for choice, expected in zip(entry["aggregation"], same, strict=True):
            assert choice["loss"] == pytest.approx(expected["loss"], rel=1e-3)
