"""Weights that cross, in this family's jobs and in FLARE's own FedAvg, and the memory of a run."""

import math

import pytest
from tiny_job import REPOSITORY

from mucald.errors import ConfigError, TrainingError
from mucald_studies.benchmark.weights import ARRAYS, OURS, TENSORS, Found, Measured, measure, measured, report

JOB = REPOSITORY / "jobs/fedcmt_fedavg"
SITES = ["heart_a", "heart_b"]
TINY = {"network.features": [4, 6, 8], "network.adaptor_channels": 4}
MARGIN = 0.3
"""Of the speed; the shipped sizes have a limit of 0.7."""


def of_site(*times: tuple[float, float]) -> list[dict]:
    return [
        {"what": what, "time": time, "resident": 100 * number + (what == "ended")}
        for number, pair in enumerate(times)
        for what, time in zip(("begun", "ended"), pair, strict=True)
    ]


def of_server(*rounds: tuple[float, float, float, float]) -> list[dict]:
    what = ("sent", "sent", "arrived", "arrived")
    return [
        {"what": each, "time": time, "resident": int(10 * time)}
        for times in rounds
        for each, time in zip(what, times, strict=True)
    ]


def notes() -> dict[str, list[dict]]:
    return {
        "heart_a": of_site((2.0, 4.0), (10.0, 12.0)),
        "heart_b": of_site((3.0, 4.5), (10.5, 12.0)),
        "server": of_server((1.0, 1.5, 5.0, 6.0), (8.0, 9.0, 13.0, 13.5)),
    }


def test_the_clock_runs_from_the_last_update_to_the_last_begin():
    found = measured(notes(), SITES, rounds=2)
    assert (found.up, found.server, found.down, found.whole) == ([1.5], [3.0], [1.5], [6.0])
    assert found.resident == {"server": [10, 80], "heart_a": [1, 101], "heart_b": [1, 101]}


@pytest.mark.parametrize(("who", "what"), [("server", "arrived"), ("heart_b", "ended")])
def test_a_round_without_a_site_is_no_measurement(who, what):
    cut = notes()
    cut[who] = cut[who][:-1]
    with pytest.raises(TrainingError, match=f"{who} noted '{what}'"):
        measured(cut, SITES, rounds=2)


def run(seconds: float, *resident: int) -> Measured:
    gaps = len(resident) - 1
    return Measured([seconds] * gaps, [seconds] * gaps, [seconds] * gaps, {"server": list(resident)})


@pytest.mark.parametrize(("seconds", "passed"), [(1.4, True), (1.5, False)])
def test_slow_weights_fail(seconds, passed):
    level = [100] * 8
    runs = {ARRAYS: [run(1.0, *level)], TENSORS: [run(1.0, *level)], OURS: [run(seconds, *level)]}
    checks = report(Found({"encoder.weight": [2, 3]}, runs)).checks
    assert [check.passed for check in checks] == [passed, passed, True]
    assert checks[0].value == pytest.approx(1 / seconds)


@pytest.mark.parametrize(
    ("resident", "growth"),
    [
        ((1, 50, 80, 90, 100, 110, 105, 100, 104, 106), 104 / 105),
        ((1, 50, 80, 90, 100, 110, 105, 108, 120, 130), 120 / 105),
    ],
)
def test_memory_counts_once_the_run_has_settled(resident, growth):
    checks = report(Found({}, {OURS: [run(1.0, *resident), run(1.0, *[100] * len(resident))]})).checks
    assert [check.value for check in checks] == [pytest.approx(max(growth, 1.0))]
    assert checks[0].passed is (growth < 1.02)


def test_a_short_run_says_nothing_of_memory():
    assert report(Found({}, {OURS: [run(1.0, 1, 2, 3)]})).checks == []


def test_what_does_not_fit_is_named():
    with pytest.raises(ConfigError, match="give 2 of the job's sites: liver, "):
        measure(JOB, {}, ["heart_a", "heart_c"], 2, 1)
    with pytest.raises(ConfigError, match="shares no weights"):
        measure(REPOSITORY / "jobs/mucald", {"network.features": [8, 16, 16, 32]}, ["skin", "polyp"], 2, 1)


@pytest.mark.slow
def test_both_carry_the_same_tensors_in_the_simulator():
    found = measure(JOB, TINY, SITES, rounds=3, repeats=1, ways=(TENSORS, OURS))
    assert found.shapes["adaptor.0.weight"] == [4, 1, 1, 1, 1]
    assert sum(map(math.prod, found.shapes.values())) == 5584
    for (one,) in found.runs.values():
        assert len(one.whole) == 2
        assert min(*one.up, *one.server, *one.down) > 0
        assert min(min(of) for of in one.resident.values()) > 1e8
    speed = next(check for check in report(found).checks if check.at_least)
    assert speed.value > MARGIN
