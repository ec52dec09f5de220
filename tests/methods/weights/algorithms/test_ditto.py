"""A personal network beside the shared one."""

import pytest
import torch
from families import config_of
from tiny_job import Federation, equal_tensors, run_job

from mucald.errors import ConfigError
from mucald.methods.weights.algorithms import make_algorithm
from mucald.methods.weights.config import AlgorithmConfig
from mucald.state.checkpoint import without_prefix

MIDDLE = {"shared": ["middle"]}


def ditto(weight, **changes):
    return config_of("weights ditto", algorithm={"name": "ditto", "args": {"weight": weight}}, **changes)


def without(results, *names):
    return [
        {key: value for key, value in results["sites"][site].items() if key not in names}
        for site in sorted(results["sites"])
    ]


def test_without_its_weight_the_personal_network_is_that_of_a_site_alone(tmp_path):
    """First middle networks depend on the job's seed alone, so both begin with the same."""
    one = run_job(ditto(0.0, **MIDDLE), tmp_path / "ditto").results
    alone = run_job(config_of("weights fedavg", shared=[]), tmp_path / "alone").results
    assert without(one, "wire", "seconds") == without(alone, "wire", "seconds")
    for mine, other in zip(one["rounds"], alone["rounds"], strict=True):
        for site, numbers in other["sites"].items():
            losses = mine["sites"][site]["losses"]
            assert {n: losses[f"personal_{n}"] for n in numbers["losses"]} == numbers["losses"]


@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_the_shared_network_is_fedavg_s_whatever_the_weight(weight, tmp_path):
    one = run_job(ditto(weight), tmp_path / "ditto")
    average = run_job(config_of("weights fedavg"), tmp_path / "average")
    for mine, other in zip(one.results["rounds"], average.results["rounds"], strict=True):
        assert mine["update_norm"] == other["update_norm"]
    (shared,) = [name for name in average.models() if name.endswith("shared.safetensors")]
    found, expected = one.models()[shared], average.models()[shared]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert one.results["wire"]["bytes_up"] == average.results["wire"]["bytes_up"]


def test_the_weight_holds_the_personal_network_to_the_shared_one(tmp_path):
    def distance(weight: float) -> float:
        training = {"rounds": 3, "local_epochs": 4, "batch_size": 2}
        run = run_job(ditto(weight, training=training), tmp_path / str(weight))
        state = run.checkpoint("north", 3)
        prefix = "personal.weights.middle."
        pairs = [(t, state[n.removeprefix("personal.")]) for n, t in state.items() if n.startswith(prefix)]
        return sum(float((own - shared).square().sum()) for own, shared in pairs)

    assert distance(100.0) < 0.8 * distance(0.0)


def test_the_personal_network_is_the_one_that_is_tested(tmp_path):
    run = run_job(ditto(0.1), tmp_path)
    (model,) = [weights for name, weights in run.models().items() if "north" in name]
    state = run.checkpoint("north", 2)
    kept = without_prefix("personal.best.0", state)
    last = without_prefix("personal.weights", state)
    last = {name.replace("back_end_0", "back_end"): tensor for name, tensor in last.items()}
    # The best round is the first one's, or the last, which is validated as the test begins.
    assert any(equal_tensors(model, tensors) for tensors in (kept, last))
    assert not any(name.startswith("best.") for name in state), "the shared network is never validated"


def test_a_personal_network_begins_as_the_shared_one(tmp_path):
    federation = Federation(ditto(0.1), tmp_path)
    task = federation.open_next()
    federation.report("north", task)
    models = federation.sites["north"]._models
    sent = federation.coordinator.payload("north", task)
    assert sent
    begun = models.personal.weights("north")
    federation.sites["north"]._take(sent, is_new=True)
    assert all(torch.equal(models.personal.weights("north")[name], sent[name]) for name in sent)
    assert begun.keys() > sent.keys()


@pytest.mark.parametrize(
    ("args", "message"),
    [({}, "missing key 'algorithm.args.weight'"), ({"weight": -1.0}, "weight must not be negative")],
)
def test_wrong_arguments_are_named(args, message):
    with pytest.raises(ConfigError, match=message):
        make_algorithm(AlgorithmConfig(name="ditto", args=args))
