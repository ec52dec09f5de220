"""Weights that no honest site sends, and jobs that cannot share what they ask for."""

import json
from collections.abc import Callable

import pytest
import torch
from families import METHODS, config_of
from tiny_job import Federation, equal_tensors, run_job, write_policy
from torch import Tensor

from mucald.errors import ConfigError, WireError
from mucald.federation.method import State
from mucald.methods.jobs import parse_config
from mucald.methods.weights.config import WeightsConfig
from mucald.privacy.policy import DEFAULT, OPEN

NAME = "middle.entry.0.conv.weight"


def changed(change: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    return lambda payload: payload | {NAME: change(payload[NAME])}


BAD: dict[str, tuple[Callable[[State], State], str]] = {
    "none": (lambda _: {}, "site 'north' sent no weights"),
    "shape": (changed(lambda t: t[:1]), f"'{NAME}' of site 'north' has shape"),
    "NaN": (
        changed(lambda t: t * float("nan")),
        f"'{NAME}' of site 'north' holds a number that is not finite",
    ),
    "integers": (changed(lambda t: t.to(torch.int64)), f"'{NAME}' of site 'north' is torch.int64"),
    "private part": (
        lambda payload: payload | {"back_end.head.weight": torch.zeros(2)},
        "site 'north' sent 'back_end.head.weight', which is not shared in this job",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_weights_are_refused_by_name_and_the_server_goes_on_without_them(case, tmp_path):
    spoil, message = BAD[case]
    federation = Federation(config_of("weights fedavg"), tmp_path)
    coordinator = federation.coordinator
    before = coordinator.method.state()
    task = next(coordinator.tasks())
    coordinator.open(task)
    for turn in coordinator.turns():
        for name in turn:
            outcome = federation.work(name, task)
            if name == "north":
                assert NAME in outcome.payload
                with pytest.raises(WireError, match=message):
                    coordinator.receive(name, outcome.reports, spoil(outcome.payload))
                assert equal_tensors(before, coordinator.method.state()), "nothing of it is loaded"
                coordinator.fail(name, message)
            else:
                coordinator.receive(name, outcome.reports, outcome.payload)
    coordinator.close(task)
    assert not equal_tensors(before, coordinator.method.state()), "the others have been combined"


def test_a_site_refuses_wrong_weights_of_the_server_and_keeps_its_own(tmp_path, monkeypatch):
    federation = Federation(config_of("weights fedavg"), tmp_path)
    sound = federation.coordinator.method.payload

    def forged(site: str, task: object) -> State:
        payload = sound(site, task)
        return payload | {NAME: payload[NAME] * float("inf")} if site == "north" else payload

    monkeypatch.setattr(federation.coordinator.method, "payload", forged)
    federation.run()
    failures = federation.coordinator.finish()["failures"]
    assert {failure["site"] for failure in failures} == {"north"}
    assert all(f"'{NAME}' of the server holds a number that is not finite" in f["reason"] for f in failures)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared": ["middle", "middle"]}, "name a part twice"),
        ({"shared": ["encodr"]}, r"'shared\[0\]' must be one of"),
        (
            {"shared": ["encoder"]},
            "the backbone 'unet' has no part 'encoder' to share; its parts are front_end, middle, back_end",
        ),
        ({"algorithm": {"name": "fedavg", "arg": {}}}, "unknown key 'algorithm.arg'; did you mean 'args'"),
        ({"clip": 0.0}, "clip must be positive"),
        (
            {"release": {}},
            "the key 'release' is one of the method split, but this job has the method 'weights'",
        ),
    ],
)
def test_a_wrong_key_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(METHODS["weights fedavg"] | changes)


def test_recording_is_refused_for_there_are_no_messages():
    runtime = METHODS["weights fedavg"]["runtime"] | {"record": True}
    with pytest.raises(ConfigError, match=r"runtime\.record"):
        config_of("weights fedavg", runtime=runtime)


def test_a_back_end_is_shared_by_sites_of_equally_many_classes_alone(tmp_path):
    shared = ["front_end", "middle", "back_end"]
    sites = {"north": {"task": "kvasir"}, "south": {"task": "fetal"}}
    with pytest.raises(ConfigError, match=r"equally many classes, not \{'north': 2, 'south': 3\}"):
        Federation(config_of("weights fedavg", sites=sites, shared=shared), tmp_path / "unlike")
    federation = Federation(config_of("weights fedavg", shared=shared), tmp_path / "alike")
    federation.run()
    assert federation.coordinator.finish()["failures"] == []


UNBOUNDED = dict.fromkeys(("max_epsilon", "max_delta", "max_total_epsilon"))


@pytest.mark.parametrize(
    ("shared", "called"),
    [
        (["front_end"], "front end"),
        (["middle"], "encoder"),
        (["front_end", "middle"], "encoder"),
        (["front_end", "middle", "back_end"], "whole network"),
    ],
)
def test_a_policy_says_which_weights_may_leave(shared, called, tmp_path):
    sites = {name: {"task": "kvasir"} for name in ("north", "south", "west")}
    config = config_of("weights fedavg", shared=shared, sites=sites)
    assert isinstance(config, WeightsConfig)
    assert config.disclosed == called
    allowed = OPEN.discloses | {"weights": UNBOUNDED | {"part": [called]}}
    write_policy(tmp_path / "home/north", OPEN, discloses=allowed)
    write_policy(tmp_path / "home/south", DEFAULT)
    federation = Federation(config, tmp_path)
    federation.run()
    (first, second, third) = federation.coordinator.finish()["failures"]
    assert {first["site"], second["site"], third["site"]} == {"south"}
    assert (
        f"weights.part allows decoder under DP, class Gaussians under DP, the job has {called}"
        in first["reason"]
    )


def test_the_account_of_a_site_says_that_shared_weights_guarantee_nothing(tmp_path):
    run = run_job(config_of("weights fedavg"), tmp_path)
    own = json.loads((tmp_path / "results/north/privacy_account.json").read_text())
    for content in (own, run.results["privacy"]):
        (said,) = [sentence for sentence in content["meaning"] if sentence.startswith("Weights")]
        assert "leave without noise, which guarantees nothing" in said
