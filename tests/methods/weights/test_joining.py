"""Sites that join when others have trained for some rounds."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from families import config_of, whole_content
from tiny_job import Federation, equal_models, run_job

from mucald.config.job import JobConfig
from mucald.errors import ConfigError, WireError
from mucald.federation.admission import check_participants
from mucald.methods import family_of
from mucald.methods.jobs import parse_config
from mucald.methods.weights.algorithms.fedavg import FedAvg
from mucald.methods.weights.joining import take_in
from mucald.methods.weights.shared_weights import SharedWeights

SITES = {
    "north": {"task": "liver"},
    "south": {"task": "brain"},
    "east": {"task": "kidneys", "joins_at_round": 1},
    "west": {"task": "heart", "joins_at_round": 1},
}
ROUNDS = {"rounds": 3, "local_epochs": 1, "batch_size": 2}


_OPTIMISER = {"name": "sgd", "learning_rate": 1.0, "momentum": 0.6}
FEDCMT = {"name": "fedcmt", "args": {"c": 0.4, "optimiser": _OPTIMISER}}
COMMON = {"training": ROUNDS, "algorithm": FEDCMT}


def joined(**changes: Any) -> JobConfig:
    return config_of("weights volumes", **COMMON | {"sites": SITES} | changes)


def without() -> JobConfig:
    known = {name: site for name, site in SITES.items() if "joins_at_round" not in site}
    return joined(sites=known)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joining")
    return run_job(joined(), folder / "with"), run_job(without(), folder / "without")


def test_a_site_trains_from_its_round_on_and_is_tested(runs):
    results = runs[0].results
    assert results["failures"] == []
    taking_part = [set(entry["sites"]) for entry in results["rounds"]]
    assert taking_part == [{"north", "south"}, set(SITES), set(SITES)]
    assert set(results["sites"]) == set(SITES)
    assert all(site["test"] is not None for site in results["sites"].values())


def test_until_its_second_round_the_others_numbers_are_those_without_it_to_the_bit(runs):
    ours, alone = (run.results for run in runs)
    for number in (0, 1):
        for site in ("north", "south"):
            assert ours["rounds"][number]["sites"][site] == alone["rounds"][number]["sites"][site]
    for site in ("north", "south"):
        # What rounds 1, 2 and 3 led to; nothing of the newcomers was in the first two.
        found, expected = (results["sites"][site]["validation"] for results in (ours, alone))
        assert found[:2] == expected[:2]
        assert found[2] != expected[2]


def test_the_best_of_the_others_is_no_worse_than_before(runs):
    results = runs[0].results
    assert [entry["site"] for entry in results["joining"]] == ["east", "west"]
    for entry in results["joining"]:
        assert set(entry["others"]) == {"north", "south"}
        for site, scores in entry["others"].items():
            validation = results["sites"][site]["validation"]
            assert scores["before"] == validation[0]["dice"]
            assert scores["after"] == validation[-1]["dice"]
            best = max(v["dice"] for v in validation if v["dice"] is not None)
            assert best >= scores["before"]
            kept = next(v for v in validation if v["round"] == results["sites"][site]["best_round"])
            assert kept["dice"] == best


def test_in_its_first_round_it_learns_what_is_its_own_and_holds_what_others_have_learnt(tmp_path):
    federation = Federation(joined(), tmp_path)
    tasks = federation.coordinator.tasks()
    coordinator = federation.coordinator
    for task in tasks:
        coordinator.open(task)
        for turn in coordinator.turns():
            for name in turn:
                outcome = federation.work(name, task)
                coordinator.receive(name, outcome.reports, outcome.payload)
                if task.round == 1:
                    parts = {key.partition(".")[0] for key in outcome.payload}
                    # The liver has taught the adaptor of CT; nobody has taught that of MR.
                    assert parts == {"east": set(), "west": {"adaptor"}}.get(name, {"adaptor", "encoder"})
                    gradients = outcome.reports[name]["gradients"]
                    assert ("decoder" in gradients, "encoder" in gradients) == (
                        True,
                        name not in ("east", "west"),
                    )
        coordinator.close(task)
        if task.round == 1:
            break


def test_it_begins_with_its_modalitys_adaptor_or_with_the_mean_of_others_of_equal_shapes():
    ct, four, mr = (
        SharedWeights(name, sites, {"adaptor.0.weight": weight}, FedAvg(), of_modality=True)
        for name, sites, weight in (
            ("modality-CT", ["north", "east"], torch.tensor([1.0, 3.0])),
            ("modality-MR4", ["south"], torch.tensor([1.0, 3.0, 5.0])),
            ("modality-MR", ["west"], torch.tensor([7.0, 7.0])),
        )
    )
    take_in([ct, four, mr], ["east", "west"], ["north", "south"])
    assert torch.equal(ct.weights["east"]["adaptor.0.weight"], torch.tensor([1.0, 3.0]))
    assert torch.equal(mr.weights["west"]["adaptor.0.weight"], torch.tensor([1.0, 3.0]))
    assert four.weights["south"]["adaptor.0.weight"].shape == (3,)


def test_a_first_of_a_modality_of_other_channels_begins_anew():
    first = torch.tensor([9.0, 9.0, 9.0])
    ct = SharedWeights("modality-CT", ["north", "east"], {"a": torch.ones(2)}, FedAvg(), of_modality=True)
    four = SharedWeights("modality-MR4", ["south"], {"a": first}, FedAvg(), of_modality=True)
    take_in([ct, four], ["east", "south"], ["north", "west"])
    assert torch.equal(four.weights["south"]["a"], first)


def test_where_every_site_has_weights_of_its_own_it_begins_with_their_mean():
    shared = SharedWeights("shared", list(SITES), {"a": torch.zeros(2)}, FedAvg())
    shared.weights |= {"north": {"a": torch.tensor([1.0, 0.0])}, "south": {"a": torch.tensor([3.0, 0.0])}}
    take_in([shared], ["east", "west"], ["north", "south"])
    assert torch.equal(shared.weights["east"]["a"], torch.tensor([2.0, 0.0]))
    assert torch.equal(shared.weights["north"]["a"], torch.tensor([1.0, 0.0]))


def test_a_stopped_and_resumed_run_ends_alike(runs, tmp_path):
    for tasks in (1, 2):
        folder = tmp_path / str(tasks)
        Federation(joined(), folder).run(tasks=tasks)
        resumed = run_job(replace(joined(), resume_from="latest"), folder)
        assert resumed.numbers() == runs[0].numbers()
        assert equal_models(resumed, runs[0])


def test_what_a_newcomer_is_to_hold_is_refused(tmp_path):
    federation = Federation(joined(), tmp_path)
    coordinator = federation.coordinator
    for task in coordinator.tasks():
        coordinator.open(task)
        for turn in coordinator.turns():
            for name in turn:
                outcome = federation.work(name, task)
                if name == "east":
                    full = coordinator.payload("north", task)
                    with pytest.raises(WireError, match="which is not shared"):
                        coordinator.receive(name, outcome.reports, full)
                coordinator.receive(name, outcome.reports, outcome.payload)
        coordinator.close(task)
        if task.round == 1:
            return


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"sites": SITES | {"west": {"task": "heart", "joins_at_round": 3}}},
            "sites.west.joins_at_round is 3, but the run has 3 rounds",
        ),
        (
            {"sites": SITES | {"south": {"task": "brain", "joins_at_round": 1}}},
            "1 sites take part, but min_sites is 2",
        ),
        (
            {"algorithm": {"name": "clustered", "args": {"conflict": 0.5, "memory": 0.0}}},
            "'clustered' takes no sites in later; leave sites.east.joins_at_round out",
        ),
    ],
)
def test_what_cannot_be_is_named(content, message):
    def checked() -> None:
        config = joined(**content)
        check_participants(family_of("weights"), config, list(config.sites))

    with pytest.raises(ConfigError, match=message):
        checked()


def test_other_methods_take_no_sites_in():
    sites = {"north": {"task": "kvasir"}, "south": {"task": "kvasir", "joins_at_round": 1}}
    content = whole_content({"method": "pooled", "participant": "p", "min_sites": 1, "sites": sites})
    config = parse_config(content)
    with pytest.raises(ConfigError, match="the method 'pooled' takes no sites in later"):
        check_participants(family_of("pooled"), config, ["p"])


@pytest.mark.parametrize(
    "algorithm",
    [
        {"name": "fedrep", "args": {"head_epochs": 1}},
        {"name": "fedhca"},
        {"name": "ditto", "args": {"weight": 0.1}},
        {"name": "fedbn"},
        {"name": "adaptive", "args": {"memory": 0.5}},
    ],
    ids=lambda algorithm: algorithm["name"],
)
def test_sites_join_whatever_the_algorithm(algorithm, tmp_path):
    training = ROUNDS | {"local_epochs": 2}
    results = run_job(joined(algorithm=algorithm, training=training), tmp_path).results
    assert results["failures"] == []
    alone = {"east": {"decoder"}, "west": {"adaptor", "decoder"}}
    for site, parts in alone.items():
        assert set(results["rounds"][1]["sites"][site]["gradients"]) == parts
        assert set(results["rounds"][2]["sites"][site]["gradients"]) == {"adaptor", "encoder", "decoder"}


def test_where_all_is_shared_a_newcomer_holds_nothing_for_it_has_nothing_of_its_own(tmp_path):
    sites = {name: {"task": "liver"} for name in ("north", "south")}
    sites["east"] = {"task": "liver", "joins_at_round": 1}
    config = joined(sites=sites, shared=["adaptor", "encoder", "decoder"], shared_in_modality=[])
    results = run_job(config, tmp_path).results
    assert results["failures"] == []
    first = results["rounds"][1]["sites"]
    assert set(first["east"]["gradients"]) == set(first["north"]["gradients"]) == set(config.parts)
