"""What a copy holds, what that is told to be beforehand, and jobs that are too large for the machine."""

import dataclasses
import gc
import logging
from collections.abc import Iterator
from types import FunctionType, ModuleType

import pytest
import torch
from tiny_job import BATCH, CPU, LATENT, PLAIN, REPOSITORY, draw, make_copy, run_job, tiny_config

from mucald.errors import ConfigError
from mucald.federation.method import Contributor
from mucald.methods.jobs import load_job
from mucald.methods.split.algorithms import make_algorithm
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server import capacity as memory
from mucald.methods.split.server.aggregator import Aggregator
from mucald.methods.split.server.capacity import CopySize, available_memory, check_memory
from mucald.methods.split.server.capacity import copy_size as size_of_copy
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.tasks import Task

CHOICE = {
    "rule": "interpolated",
    "args": {
        "toward": {"rule": "conflict_averse", "args": {"c": 0.4}},
        "factors": [0, 0.5, 1],
        "blocks": {"all": ["crdm1", "middle", "crdm2"]},
    },
}
JOBS = [
    path.parent for path in REPOSITORY.glob("jobs/*/meta.json") if load_job(path.parent)[0].method == "split"
]
LEVEL = torch.full((BATCH,), 300)
PROXIES = draw(BATCH, 4, seed=5), torch.ones(BATCH, 4, dtype=torch.uint8)


def copy_size(config: SplitConfig, task: str) -> CopySize:
    return size_of_copy(config, make_algorithm(config.algorithm), task)


def trained(config: SplitConfig) -> SiteCopy:
    """Return a copy that has trained for a step and remembers a best round that was another."""
    copy = make_copy(config)
    copy.best.keep(0.5)
    proxies = None if config.crdm.encoder == "none" else PROXIES
    for step in range(2):
        copy.train_forward(0, step, draw(*LATENT), LEVEL, proxies, None, [])
        copy.train_backward(step, draw(*LATENT, seed=9))
    return copy


def tensors_below(thing: object, seen: set[int]) -> Iterator[torch.Tensor]:
    """Yield every tensor that an object leads to, by whatever way."""
    if id(thing) in seen or isinstance(thing, type | ModuleType | FunctionType | SplitConfig | Task):
        return
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        yield thing
    for below in gc.get_referents(thing):
        yield from tensors_below(below, seen)


def held(*copies: SiteCopy) -> int:
    """Return the bytes of all tensors that copies hold between two steps, samples and features aside."""
    for copy in copies:
        copy.features = []
    found = [tensor for tensor in tensors_below(copies, set()) if tensor.numel() > 0]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in found}
    return sum(storages.values())


def gradients(copy: SiteCopy) -> int:
    return sum(parameter.nbytes for parameter in copy.segments.parameters())


@pytest.mark.parametrize("change", [{}, PLAIN, {"aggregation": CHOICE}])
def test_a_copy_holds_no_more_than_weights_gradients_and_optimiser_state(change):
    """What it remembers beside, the round's beginning and the best round's weights, is on disk."""
    config = tiny_config(change)
    copy, size = trained(config), copy_size(config, "kvasir")
    assert copy.best.weights().keys() == copy.segments.state_dict().keys()
    assert bool(copy.start) == bool(change != PLAIN)
    # AdamW counts its steps too, in four bytes a parameter.
    assert held(copy) + gradients(copy) == pytest.approx(size.training, rel=0.01)


def test_while_sites_choose_they_hold_the_state_towards_which_they_may_move_once():
    config = tiny_config({"aggregation": CHOICE})
    copies, size = [trained(config) for _ in range(3)], copy_size(config, "kvasir")
    contributions = dict.fromkeys(("north", "south", "west"), Contributor(4, None))
    for copy, site in zip(copies, contributions, strict=True):
        copy.site = site
    Aggregator(config, make_algorithm(config.algorithm)).end_round(copies, contributions)
    assert [len(copy.candidates) for copy in copies] == [3, 3, 3]
    at_rest = sum(size.training - gradients(copy) for copy in copies)
    assert held(*copies) == pytest.approx(at_rest + size.common, rel=0.01)
    # One candidate more for each, as long as it is evaluated.
    assert size.choosing == size.training - gradients(copies[0]) + size.common


@pytest.mark.parametrize("job", sorted(JOBS), ids=lambda job: job.name)
def test_no_job_needs_more_than_a_fifth_beside_weights_gradients_and_optimiser_state(job):
    config, _ = load_job(job)
    for site in config.sites:
        size = copy_size(config, config.site(site).task)
        assert size.total + size.common / len(config.sites) <= 1.2 * size.training


def test_memory_does_not_grow_from_step_to_step_or_round_to_round():
    copy = trained(tiny_config())
    before = held(copy)
    copy.begin_round()
    for step in range(2):
        copy.train_forward(1, step, draw(*LATENT), LEVEL, PROXIES, None, [])
        copy.train_backward(step, draw(*LATENT, seed=9))
    copy.best.keep(0.6)
    assert held(copy) == before


def test_more_sites_than_memory_allows_are_refused_with_the_numbers(tmp_path, monkeypatch):
    config = tiny_config()
    one = copy_size(config, "kvasir").total
    monkeypatch.setattr(memory, "available_memory", lambda _: int(2.5 * one))
    check_memory(config, make_algorithm(config.algorithm), ["north", "south"], CPU)
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
