"""What a copy holds, what that is told to be beforehand, and jobs that are too large for the machine."""

import dataclasses
import logging

import pytest
import torch
from tiny_job import BATCH, CPU, LATENT, PLAIN, draw, make_copy, run_job, tiny_config

from mucald.config import JobConfig
from mucald.errors import ConfigError
from mucald.split import memory
from mucald.split.checkpoint import optimiser_tensors
from mucald.split.memory import available_memory, check_memory, copy_size
from mucald.split.site_copy import SiteCopy

CHOICE = {
    "rule": "interpolated",
    "args": {
        "toward": {"rule": "conflict_averse", "args": {"c": 0.4}},
        "factors": [0, 0.5, 1],
        "blocks": {"all": ["crdm1", "middle", "crdm2"]},
    },
}
LEVEL = torch.full((BATCH,), 300)
PROXIES = draw(BATCH, 4, seed=5), torch.ones(BATCH, 4, dtype=torch.uint8)


def trained(config: JobConfig) -> SiteCopy:
    """Return a copy that has trained for a step and remembers a best round that was another."""
    copy = make_copy(config)
    copy.keep_if_best(0.5)
    proxies = None if config.crdm.encoder == "none" else PROXIES
    for step in range(2):
        copy.train_forward(0, step, draw(*LATENT), LEVEL, proxies, None, [])
        copy.train_backward(step, draw(*LATENT, seed=9))
    return copy


def held(copy: SiteCopy) -> int:
    """Return the bytes of all tensors that a copy holds between two steps, samples and features aside."""
    tensors = [*copy.segments.state_dict().values(), *copy.start.values(), *copy.best.values()]
    tensors += [parameter.grad for parameter in copy.segments.parameters() if parameter.grad is not None]
    tensors += optimiser_tensors(copy.optimiser).values()
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def test_a_copy_holds_at_most_a_fifth_more_than_weights_gradients_and_optimiser_state():
    config = tiny_config(PLAIN)
    assert held(trained(config)) <= 1.2 * copy_size(config, "kvasir").training


@pytest.mark.parametrize("change", [{}, PLAIN, {"aggregation": CHOICE, "losses": {"proximal": 0.0}}])
def test_what_is_told_is_what_a_copy_holds_its_gradients_and_the_states_to_choose_from(change):
    config = tiny_config(change)
    copy, size = trained(config), copy_size(config, "kvasir")
    gradients = sum(parameter.nbytes for parameter in copy.segments.parameters())
    shared = sum(t.nbytes for name, t in copy.segments.state_dict().items() if copy.segments.is_shared(name))
    states = 2 * shared if config.aggregation.rule == "interpolated" else 0
    # AdamW counts its steps too, in four bytes a parameter.
    assert held(copy) + gradients + states == pytest.approx(size.total, rel=0.01)


def test_memory_does_not_grow_from_step_to_step_or_round_to_round():
    copy = trained(tiny_config())
    before = held(copy)
    copy.begin_round()
    for step in range(2):
        copy.train_forward(1, step, draw(*LATENT), LEVEL, PROXIES, None, [])
        copy.train_backward(step, draw(*LATENT, seed=9))
    copy.keep_if_best(0.6)
    assert held(copy) == before


def test_more_sites_than_memory_allows_are_refused_with_the_numbers(tmp_path, monkeypatch):
    config = tiny_config()
    one = copy_size(config, "kvasir").total
    monkeypatch.setattr(memory, "available_memory", lambda _: int(2.5 * one))
    check_memory(config, ["north", "south"], CPU)
    with pytest.raises(
        ConfigError, match=r"the server needs \d+ MB for the networks of 3 sites, but \d+ MB are"
    ):
        run_job(config, tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_estimate_is_told_before_training(tmp_path, caplog):
    config = tiny_config(PLAIN, training={"rounds": 1})
    with caplog.at_level(logging.INFO):
        run_job(config, tmp_path)
    lines = [record.getMessage() for record in caplog.records]
    (told,) = (number for number, line in enumerate(lines) if line.startswith("server memory: "))
    assert "3 sites" in lines[told]
    assert told < next(number for number, line in enumerate(lines) if line.startswith("round 1/1"))


def test_free_memory_is_the_least_of_the_machines_and_the_containers(tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       16384 kB\nMemAvailable:    8192 kB\n")
    monkeypatch.setattr(memory, "_MEMORY", meminfo)
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert available_memory(CPU) == 8192 * 1024
    for limit, expected in (("max", 8192 * 1024), ("5000", 3000), ("1000", 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text("2000\n")
        assert available_memory(CPU) == expected
    meminfo.unlink()
    (tmp_path / "memory.max").unlink()
    assert available_memory(CPU) > 0


def test_a_job_with_a_wrong_rule_is_refused_as_such():
    wrong = dataclasses.replace(tiny_config().aggregation, rule="mean")
    with pytest.raises(ConfigError, match="mean"):
        copy_size(dataclasses.replace(tiny_config(), aggregation=wrong), "kvasir")
