"""A site whose update is far larger than the others' is left out of the round, with its reason."""

import re

import pytest
import torch
from families import config_of
from tiny_job import Federation, equal_tensors

from mucald.errors import TrainingError
from mucald.methods.weights.outliers import LARGEST, too_large

MOVED = {"middle.a": torch.tensor([3.0, 4.0]), "middle.n.running_var": torch.tensor([1.0])}


def scaled(factor, name=None):
    return {n: tensor * factor if name in (None, n) else tensor for n, tensor in MOVED.items()}


@pytest.mark.parametrize("factor", [1000.0, LARGEST * 1.01, LARGEST * 0.99, 1.0, 1e-4, 0.0])
def test_the_bound_is_the_median_of_the_others(factor):
    found = too_large(
        {"north": scaled(factor), "south": scaled(1.0), "west": scaled(1.1), "east": scaled(0.9)}
    )
    assert found.keys() == ({"north"} if factor > LARGEST else set())


def test_of_two_sites_the_larger_is_named_with_how_much_it_is():
    (reason,) = too_large({"north": scaled(1.0), "south": scaled(1000.0, "middle.a")}).values()
    assert reason.startswith("its weights have changed 1000 times as much as the others' (the most is 100)")
    (reason,) = too_large({"north": scaled(1.0), "south": scaled(1000.0, "middle.n.running_var")}).values()
    assert reason.startswith("its running statistics have changed 1000 times")


def test_who_shares_more_or_keeps_tensors_back_is_not_larger_for_it():
    large = {f"middle.{number}": torch.ones(100) for number in range(1000)}
    assert too_large({"north": {"middle.a": torch.ones(2)}, "south": large}) == {}


def test_one_site_or_one_that_alone_has_learnt_is_not_compared():
    assert too_large({"north": scaled(1e6)}) == {}
    assert too_large({"north": scaled(1.0), "south": scaled(0.0), "west": scaled(0.0)}) == {}


def spoilt(federation, rounds, factor=1000.0):
    """Run a job in which north's updates of some rounds come scaled."""
    for task in federation.coordinator.tasks():
        federation.coordinator.open(task)
        for name in next(iter(federation.coordinator.turns())):
            outcome = federation.work(name, task)
            payload = outcome.payload
            if name == "north" and task.round in rounds:
                payload = {n: tensor * factor for n, tensor in payload.items()}
            federation.coordinator.receive(name, outcome.reports, payload)
        federation.coordinator.close(task)
    return federation.coordinator.finish()


@pytest.mark.parametrize("method", ["weights fedavg", "weights ditto", "weights fedopt"])
def test_the_round_is_that_of_the_others_and_the_site_takes_part_again(method, tmp_path):
    federation, without = (Federation(config_of(method), tmp_path / name) for name in ("with", "without"))
    results = spoilt(federation, {1})
    (failure,) = results["failures"]
    assert (failure["site"], failure["round"]) == ("north", 1)
    assert "times as much as the others'" in failure["reason"]
    assert [sorted(entry["sites"]) for entry in results["rounds"]] == [
        ["north", "south", "west"],
        ["south", "west"],
    ]
    assert results["sites"]["north"]["test"]["dice"] is not None
    for task in without.coordinator.tasks():
        without.coordinator.open(task)
        for name in next(iter(without.coordinator.turns())):
            if name == "north" and task.round == 1:
                without.coordinator.fail(name, "away")
                continue
            outcome = without.work(name, task)
            without.coordinator.receive(name, outcome.reports, outcome.payload)
        without.coordinator.close(task)
    absent = without.coordinator.finish()
    assert equal_tensors(*(each.coordinator.method.state() for each in (federation, without)))
    for site, numbers in absent["sites"].items():
        assert numbers["test"] == results["sites"][site]["test"]
        for key in ("validation", "best_round"):
            assert numbers[key] == results["sites"][site][key], "what a site has forgotten is not reported"


def test_a_run_that_is_left_with_too_few_sites_stops_with_the_reason(tmp_path, caplog):
    federation = Federation(config_of("weights fedavg", min_sites=3), tmp_path)
    with pytest.raises(
        TrainingError, match=r"2 sites finished round 1.*left out, for the reasons above: north"
    ):
        spoilt(federation, {0})
    assert re.search(r"'north' is left out of round 1: its weights have changed \d+ times", caplog.text)
