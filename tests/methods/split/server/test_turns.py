"""SplitFed V2: the sites train in turn on one set of shared networks."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fragile_line import cut_after
from tiny_job import (
    PLAIN,
    Clock,
    Federation,
    Run,
    equal_models,
    equal_tensors,
    make_copy,
    request,
    run_job,
    tiny_config,
)

from mucald.errors import ConfigError, WireError
from mucald.federation.schedule import PICK_UP_S, InTurn
from mucald.methods.split.algorithms.splitfed import SplitFed
from mucald.methods.split.algorithms.splitfed_v2 import SplitFedV2
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server.capacity import copy_size, shared_size
from mucald.methods.split.wire.messages import Kind, Phase, decode
from mucald.state.checkpoint import load_checkpoint, without_prefix

SITES = ["north", "south", "west"]
ALONE = {"sites": {"south": {"task": "ham10k"}}, "min_sites": 1}
THREE_ROUNDS = {"training": {"rounds": 3}}
ONCE = {"release": {"mode": "once", "pretraining_epochs": 1}}
BATCH_NORM = {"network": {"norm": "batch"}}
V2 = SplitFedV2()


def config_of(*changes: dict[str, Any], **more: Any) -> SplitConfig:
    return tiny_config(
        *changes, more, algorithm={"name": "splitfed_v2"}, aggregation={"rule": "local", "statistics": False}
    )


def scores(results: dict[str, Any]) -> dict[str, Any]:
    return {key: results[key] for key in ("sites", "mean", "rounds", "wire", "failures")}


def shared(federation: Federation, site: str = "north") -> dict[str, torch.Tensor]:
    """Return clones of what all sites share."""
    segments = federation.copies[site].segments
    return {name: t.clone() for name, t in segments.state_dict().items() if segments.is_shared(name)}


def moments(federation: Federation, site: str) -> list[torch.Tensor]:
    """Return clones of AdamW's state of the shared part, as a site in its turn holds it."""
    copy = federation.copies[site]
    return [
        value.clone()
        for name, parameter in copy.segments.named_parameters()
        if copy.segments.is_shared(name)
        for value in copy.optimiser.state.get(parameter, {}).values()
    ]


def open_next(federation: Federation) -> Iterator[str]:
    """Open the next task and yield the site of every turn; each has to be done by the test."""
    federation.coordinator.open(next(federation.coordinator.tasks()))
    for (site,) in federation.coordinator.turns():
        yield site


def work(federation: Federation, site: str) -> None:
    task = next(federation.coordinator.tasks())
    federation.receive(site, federation.work(site, task))


def turn_order(config: SplitConfig, round_number: int) -> list[str]:
    return [site for (site,) in InTurn(config.seed).turns(round_number, SITES)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    """A run of the full method with turns, by one worker."""
    return run_job(config_of(THREE_ROUNDS), tmp_path_factory.mktemp("turns"))


@pytest.mark.parametrize("changes", [{}, PLAIN | BATCH_NORM, ONCE], ids=["full", "batch", "once"])
def test_with_one_site_it_is_splitfed_to_the_bit(changes, tmp_path):
    v2 = run_job(config_of(changes, ALONE), tmp_path / "v2")
    v1 = run_job(tiny_config(changes, ALONE), tmp_path / "v1")
    assert v2.results["failures"] == []
    assert scores(v2.results) == scores(v1.results)
    assert equal_models(v2, v1)


def test_with_more_sites_it_is_not_splitfed(whole, tmp_path):
    v1 = run_job(tiny_config(THREE_ROUNDS), tmp_path)
    assert whole.results["failures"] == []
    assert not equal_models(whole, v1)


def test_neither_workers_nor_new_processes_change_a_number(whole, tmp_path):
    at_once = run_job(config_of(THREE_ROUNDS), tmp_path / "three", workers=3)
    assert at_once.numbers() == whole.numbers()
    assert equal_models(at_once, whole)
    federation = Federation(config_of(THREE_ROUNDS), tmp_path / "anew", new_process=True)
    federation.run()
    assert scores(federation.coordinator.finish()) == scores(whole.results)


@pytest.mark.parametrize("completed", [1, 2, 3])
def test_a_resumed_run_has_the_numbers_of_one_never_stopped(completed, whole, tmp_path):
    Federation(config_of(THREE_ROUNDS), tmp_path).run(completed)
    resumed = run_job(config_of(THREE_ROUNDS, resume_from="latest"), tmp_path)
    assert resumed.numbers() == whole.numbers()
    assert equal_models(resumed, whole)


def test_a_run_that_stopped_between_two_turns_does_the_round_anew(whole, tmp_path):
    stopped = Federation(config_of(THREE_ROUNDS), tmp_path)
    stopped.run(1)
    for site in open_next(stopped):
        work(stopped, site)
        if site == turn_order(stopped.config, 1)[1]:
            break
    resumed = run_job(config_of(THREE_ROUNDS, resume_from="latest"), tmp_path)
    assert resumed.numbers() == whole.numbers()
    assert equal_models(resumed, whole)


def test_the_order_of_turns_follows_seed_and_round():
    orders = {seed: [turn_order(config_of(seed=seed), number) for number in range(20)] for seed in (7, 8)}
    assert all(sorted(order) == SITES for order in orders[7])
    assert orders[7] == [turn_order(config_of(seed=7), number) for number in range(20)]
    assert orders[7] != orders[8]
    assert len({tuple(order) for order in orders[7]}) == 6, "every order comes up"


def test_the_server_hands_out_turns_in_that_order_one_at_a_time(tmp_path):
    federation = Federation(config_of(PLAIN), tmp_path)
    coordinator, done = federation.coordinator, []
    for site in open_next(federation):
        assert coordinator.awaited == [site]
        for other in SITES:
            answer = decode(coordinator.handle(other, plain_request(federation)))
            assert (answer.kind is Kind.REJECTION) is (other != site)
        coordinator.restart(site)
        work(federation, site)
        done.append(site)
    assert done == turn_order(federation.config, 0)


def plain_request(federation: Federation) -> bytes:
    level = torch.zeros(2, dtype=torch.int32)
    assert not federation.config.release.noised
    return request(Phase.TRAIN_FORWARD, level=level, proxies=None, proxy_mask=None)


def test_a_turn_begins_with_the_weights_and_the_optimiser_of_the_one_before(tmp_path):
    federation = Federation(config_of(), tmp_path)
    ended, ended_moments = shared(federation), []
    for number in range(2):
        for site in open_next(federation):
            assert equal_tensors(shared(federation, site), ended)
            begun = moments(federation, site)
            assert len(begun) == len(ended_moments)
            assert all(torch.equal(*pair) for pair in zip(begun, ended_moments, strict=True))
            work(federation, site)
            assert not equal_tensors(shared(federation, site), ended)
            ended, ended_moments = shared(federation, site), moments(federation, site)
            assert len(ended_moments) > 0
        federation.coordinator.close(next(federation.coordinator.tasks()))
        assert equal_tensors(shared(federation), ended), f"nothing is averaged after round {number}"
    steps = {int(value) for value in ended_moments if value.ndim == 0}
    assert steps == {2 * 3 * 2}, "one sequence of steps: rounds, sites, steps of a turn"


def test_a_turn_changes_the_causal_model_of_its_own_site_alone(tmp_path):
    federation = Federation(config_of(), tmp_path)
    for site in open_next(federation):
        before = {name: own(federation, name) for name in SITES}
        work(federation, site)
        for name in SITES:
            assert before[name]
            assert equal_tensors(own(federation, name), before[name]) is (name != site)


def own(federation: Federation, site: str) -> dict[str, torch.Tensor]:
    """Return clones of what a site shares with none, or only with its task."""
    is_shared = federation.copies[site].segments.is_shared
    return {name: tensor for name, tensor in federation.parameters(site).items() if not is_shared(name)}


def test_every_site_validates_what_the_round_before_ended_with_whoever_has_trained_since(
    whole, tmp_path, monkeypatch
):
    turns = InTurn.turns
    monkeypatch.setattr(InTurn, "turns", lambda self, n, sites: turns(self, n, sites)[:: -1 if n == 1 else 1])
    turned = run_job(config_of(THREE_ROUNDS), tmp_path)
    first, second = (
        [run.results["sites"][site]["validation"][number] for site in SITES for run in (whole, turned)]
        for number in (0, 1)
    )
    assert first[::2] == first[1::2], "round 1 is validated in round 2, whose order is another"
    assert second[::2] != second[1::2]


@pytest.mark.parametrize("failed", SITES)
def test_a_site_that_fails_leaves_the_shared_networks_as_before_its_turn(failed, tmp_path):
    """Whether it fails at its first message or in the middle of a step after its validation."""
    found = []
    # 4 requests make the first round's two steps; of the second round's, 2 validate and 4 train.
    for requests in (4, 9):
        folder = tmp_path / str(requests)
        federation = Federation(config_of(THREE_ROUNDS), folder, carrier=cut_after(failed, requests))
        federation.run()
        results = scores(federation.coordinator.finish())
        assert results["failures"] == [{"site": failed, "round": 1, "reason": "the line is cut"}]
        models = {site: load_checkpoint(folder / f"results/models/{site}.safetensors")[0] for site in SITES}
        found.append((results, models))
    (first, first_models), (middle, middle_models) = found
    assert first == middle
    assert all(equal_tensors(first_models[site], middle_models[site]) for site in SITES)


def test_a_site_that_is_started_again_in_its_turn_ends_with_the_same_numbers(whole, tmp_path):
    federation = Federation(config_of(THREE_ROUNDS), tmp_path)
    federation.run(1)
    for site in open_next(federation):
        federation.coordinator.begin(site)
        before = shared(federation)
        federation.carrier = cut_after(site, 5)
        with pytest.raises(WireError):
            federation.work(site, next(federation.coordinator.tasks()))
        assert not equal_tensors(shared(federation), before)
        federation.carrier = None
        federation.coordinator.restart(site)
        assert equal_tensors(shared(federation), before)
        work(federation, site)
    federation.coordinator.close(next(federation.coordinator.tasks()))
    federation.run()
    assert scores(federation.coordinator.finish()) == scores(whole.results)


def test_a_silent_site_loses_its_turn_and_an_absent_one_has_time_to_take_the_next(tmp_path):
    clock = Clock()
    config = config_of(PLAIN, THREE_ROUNDS, runtime={"stall_timeout_s": 60.0})
    federation = Federation(config, tmp_path, clock=clock)
    coordinator = federation.coordinator
    for limit in (60, PICK_UP_S):
        for site in open_next(federation):
            if site != "south":
                clock.now += 50
                coordinator.begin(site)
                work(federation, site)
                continue
            before = shared(federation)
            clock.now += limit - 1
            assert coordinator.leave_out_silent() == []
            clock.now += 1
            assert coordinator.leave_out_silent() == ["south"]
            assert coordinator.awaited == []
            assert equal_tensors(shared(federation), before)
        coordinator.close(next(coordinator.tasks()))
    federation.run()
    assert [failure["round"] for failure in coordinator.finish()["failures"]] == [0, 1]


def storages(federation: Federation) -> int:
    """Return the bytes of the shared part that all copies hold together between two rounds."""
    tensors = []
    for copy in federation.copies.values():
        held = [*copy.segments.state_dict().items(), *copy.best.weights().items(), *copy.start.items()]
        tensors += [tensor for name, tensor in held if copy.segments.is_shared(name)]
        tensors += moments(federation, copy.site)
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


@pytest.mark.parametrize("resumed", [False, True])
def test_the_shared_part_is_held_once_whatever_the_number_of_sites(resumed, tmp_path):
    federation = Federation(config_of(), tmp_path)
    federation.run(2)
    if resumed:
        federation = Federation(config_of(resume_from="latest"), tmp_path)
    one = sum(tensor.nbytes for tensor in shared(federation).values())
    # In the task after the first round every site has validated the same state.
    assert all(copy.best.round == 1 for copy in federation.copies.values())
    assert storages(federation) == 2 * one


def test_what_is_told_of_memory_is_what_the_shared_networks_hold(tmp_path):
    config = config_of(THREE_ROUNDS)
    federation = Federation(config, tmp_path)
    federation.run(2)
    for site in open_next(federation):
        work(federation, site)
        networks = federation.coordinator.method._plan.shared
        tensors = [*networks.weights().values(), *moments_in_place(federation, site)]
        weights, kept_moments = networks._before_turn
        tensors += [*weights.values(), *(v for values in kept_moments.values() for v in values.values())]
        tensors += [t for start in networks._starts.values() for t in start.values()]
    held = sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())
    one = sum(tensor.nbytes for tensor in shared(federation).values())
    spare = 4 - len(networks._starts)
    assert held + one + spare * one == pytest.approx(shared_size(config, V2, SITES), rel=0.01), (
        "with gradients"
    )


def moments_in_place(federation: Federation, site: str) -> list[torch.Tensor]:
    copy = federation.copies[site]
    return [
        value
        for name, parameter in copy.segments.named_parameters()
        if copy.segments.is_shared(name)
        for value in copy.optimiser.state[parameter].values()
    ]


def test_memory_for_the_shared_part_does_not_grow_with_the_sites():
    config = config_of()
    assert shared_size(tiny_config(), SplitFed(), SITES) == 0
    assert shared_size(config, V2, SITES) == shared_size(config, V2, SITES * 50) > 0
    private = copy_size(config, V2, "ham10k")
    whole = copy_size(tiny_config(losses={"proximal": 0.0}), SplitFed(), "ham10k")
    segments = make_copy(tiny_config(), "south").segments
    part = sum(t.nbytes for name, t in segments.state_dict().items() if segments.is_shared(name))
    assert 0 < private.weights == whole.weights - part
    assert private.total == whole.total - 4 * part


def test_a_sites_checkpoint_has_no_shared_tensor(tmp_path):
    federation = Federation(config_of(), tmp_path)
    federation.run(2)
    folder = tmp_path / "home/server/runs" / federation.coordinator.run_id / "round-002"
    segments = federation.copies["north"].segments
    for site in SITES:
        tensors = load_checkpoint(folder / f"{site}.safetensors")[0]
        kept = without_prefix("segments", tensors) | without_prefix("best", tensors)
        assert kept
        assert not any(segments.is_shared(name) for name in kept)
    common = without_prefix("method.shared.weights", load_checkpoint(folder / "server.safetensors")[0])
    assert equal_tensors(common, shared(federation))


def test_every_site_is_tested_with_its_best_round(whole):
    server = whole.checkpoint("server", 3)
    for site in SITES:
        best = whole.results["sites"][site]["best_round"]
        last = best == 2
        expected = without_prefix(
            "method.shared.weights" if last else f"method.shared.start.{best + 1}", server
        )
        model = load_checkpoint(whole.server / f"models/{site}.safetensors")[0]
        assert expected
        assert equal_tensors({name: model[name] for name in expected}, expected), site
        assert model.keys() == make_copy(tiny_config(), site).segments.state_dict().keys()


def test_no_choice_is_left_in_place_of_what_trains(tmp_path):
    federation = Federation(config_of(), tmp_path)
    federation.run(1)
    assert all(copy.candidates.changes(0, {}) == {} for copy in federation.copies.values())


@pytest.mark.parametrize("rule", ["equal", "fedbn"])
def test_a_rule_that_would_average_is_refused(rule, tmp_path):
    config = tiny_config(algorithm={"name": "splitfed_v2"}, aggregation={"rule": rule})
    with pytest.raises(ConfigError, match=f'\'aggregation.rule\' must be "local" .*, not "{rule}"'):
        Federation(config, tmp_path)
