"""What every algorithm and rule that remembers something must withstand: a stop, and sites at once."""

from typing import Any

import pytest
from tiny_job import PLAIN, Federation, Run, equal_models, run_job, tiny_config

from mucald.state.checkpoint import without_prefix

LOCAL = {"rule": "local"}
BASELINES: dict[str, dict[str, Any]] = {
    "fedbn": {"aggregation": {"rule": "fedbn"}, "network": {"norm": "batch"}},
    "scaffold": {"algorithm": {"name": "scaffold"}},
    "mocha": {
        "algorithm": {"name": "mocha", "args": {"regularisation": 0.001, "ridge": 1e-4}},
        "aggregation": LOCAL,
    },
    "fedbone": {
        "aggregation": {"rule": "fedbone", "args": {"learning_rate": 1.0, "momentum": 0.5}},
        "network": {"task_adaptation": True},
    },
}
REMEMBERS = {
    "fedbn": set(),
    "scaffold": {"algorithm.server", "algorithm.site"},
    "mocha": {"algorithm.relation", "algorithm.own", "algorithm.others"},
    "fedbone": {"rule.previous", "rule.velocity"},
}


def config(name: str, **more: Any):
    return tiny_config(PLAIN, BASELINES[name], **more)


@pytest.fixture(scope="module", params=BASELINES)
def whole(request, tmp_path_factory) -> tuple[str, Run]:
    """A run that was never stopped."""
    return request.param, run_job(config(request.param), tmp_path_factory.mktemp(request.param))


def test_a_run_resumed_after_its_first_round_equals_one_never_stopped(whole, tmp_path):
    name, run = whole
    Federation(config(name), tmp_path).run(1)
    resumed = run_job(config(name, resume_from="latest"), tmp_path)
    assert resumed.numbers() == run.numbers()
    assert equal_models(resumed, run)


def test_sites_at_once_give_the_numbers_of_sites_in_turn(whole, tmp_path):
    name, run = whole
    at_once = run_job(config(name), tmp_path, workers=3)
    assert at_once.numbers() == run.numbers()
    assert equal_models(at_once, run)


def test_a_checkpoint_holds_what_is_remembered(whole):
    name, run = whole
    tensors = without_prefix("method.aggregator", run.checkpoint("server", 1))
    assert {".".join(key.split(".")[:2]) for key in tensors} == REMEMBERS[name]
