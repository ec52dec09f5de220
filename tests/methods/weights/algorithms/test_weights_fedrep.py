"""Head and representation learn in turn."""

import pytest
import torch
from families import config_of
from tiny_job import CPU, Federation, equal_models, run_job, site_data

from mucald.config.common import NetworkConfig
from mucald.errors import ConfigError
from mucald.methods.weights.algorithms.fedrep import FedRep
from mucald.training.whole_model import WholeModel

ENCODER = ("front_end", "middle")


def changed_parts(model, before):
    return {n.partition(".")[0] for n, t in model.weights("north").items() if not torch.equal(t, before[n])}


def test_head_epochs_come_first():
    rule = FedRep(head_epochs=2)
    assert [list(rule.trained(epoch, ENCODER, NetworkConfig.parts)) for epoch in range(3)] == [
        ["back_end"],
        ["back_end"],
        ["front_end", "middle"],
    ]
    assert list(rule.trained(0, ("middle",), NetworkConfig.parts)) == ["front_end", "back_end"]


@pytest.mark.parametrize("trained", [("back_end",), ENCODER])
def test_a_step_leaves_all_else_as_it_is_statistics_and_weight_decay_included(trained):
    config = config_of(
        "weights fedrep", network=config_of("weights fedrep").to_dict()["network"] | {"norm": "batch"}
    )
    data = site_data(config, "north")
    model = WholeModel(config, {"north": data}, CPU)
    batch = data.train.batch(range(2))
    # AdamW has moments of all parts, which alone would move them.
    model.train_step("north", batch.inputs, batch.targets, "0/0")
    before = {name: tensor.clone() for name, tensor in model.weights("north").items()}
    result = model.train_step("north", batch.inputs, batch.targets, "0/1", trained=trained)
    assert changed_parts(model, before) == set(trained)
    assert result.gradients.keys() == set(trained)
    assert all(value > 0 for value in result.gradients.values())
    model.train_step("north", batch.inputs, batch.targets, "0/2")
    assert changed_parts(model, before) == {*ENCODER, "back_end"}


def test_without_head_epochs_it_is_fedavg_to_the_bit(tmp_path):
    training = config_of("weights fedrep").to_dict()["training"]
    algorithm = {"name": "fedrep", "args": {"head_epochs": 0}}
    rep = run_job(config_of("weights fedrep", algorithm=algorithm), tmp_path / "rep")
    average = run_job(config_of("weights fedavg", training=training), tmp_path / "average")
    assert rep.results["rounds"] == average.results["rounds"]
    assert equal_models(rep, average)


def test_a_run_trains_head_and_representation(tmp_path):
    rep = run_job(config_of("weights fedrep"), tmp_path)
    for entry in rep.results["rounds"]:
        assert entry["update_norm"]["shared"] > 0
        assert all(set(s["gradients"]) == {*ENCODER, "back_end"} for s in entry["sites"].values())
    first, last = (rep.checkpoint("north", number) for number in (1, 2))
    head = [name for name in first if name.startswith("weights.back_end")]
    assert all(not torch.equal(first[name], last[name]) for name in head if "conv.weight" in name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": {"name": "fedrep", "args": {"head_epochs": 2}}}, "leaves no epoch for what is shared"),
        ({"shared": []}, "site 'north' shares none of its network; change 'shared'"),
        ({"shared": ["front_end", "middle", "back_end"]}, "site 'north' shares all of its network"),
    ],
)
def test_a_job_in_which_a_phase_trains_nothing_is_refused(changes, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        Federation(config_of("weights fedrep", **changes), tmp_path)
