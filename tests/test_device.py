import os
import re
from contextlib import nullcontext

import pytest
import tiny_job
import torch
from in_turn import InTurn
from simulated_device import DEVICE, SimulatedDevice, on_cpu, unfused
from tiny_job import CPU, REPOSITORY, Federation, run_job, tiny_config

from mucald import optimisers
from mucald.device import choose_device, steps_at_once
from mucald.errors import ConfigError
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.site import fresh, once

# What looks at finished runs, and takes the sites' part in it, does so on the CPU.
EXAMINES = ("inference/", "methods/split/as_tested.py")


def chosen(name: str) -> str:
    return choose_device(tiny_config(runtime={"device": name}).runtime).type


@pytest.mark.parametrize(("available", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_takes_a_gpu_where_there_is_one(available, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert chosen("auto") == expected


def test_a_gpu_that_is_there_is_used_or_left_alone_as_the_job_says(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (chosen("cuda"), chosen("cpu")) == ("cuda", "cpu")


def test_a_gpu_that_is_asked_for_and_missing_ends_the_run_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r'runtime\.device is "cuda", but this process sees no GPU'):
        run_job(tiny_config(runtime={"device": "cuda"}), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_unknown_device_is_refused():
    with pytest.raises(ConfigError, match=r"'runtime\.device' must be one of"):
        tiny_config(runtime={"device": "gpu"})


@pytest.mark.parametrize(("threads", "expected"), [(1, 7), (2, 4), (4, 2), (8, 2)])
def test_a_server_works_on_as_many_steps_as_the_cores_hold_and_one_more(threads, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert steps_at_once(tiny_config(runtime={"threads": threads}).runtime) == expected


def test_no_part_of_a_run_names_its_device():
    package = REPOSITORY / "custom/mucald"
    for path in package.rglob("*.py"):
        name = str(path.relative_to(package))
        if not name.startswith(EXAMINES) and name != "device.py":
            assert not re.search(
                r"""torch\.device\(["'](cpu|cuda)|\.cuda\(\)""", path.read_text(encoding="utf-8")
            ), name


def test_a_level_is_looked_up_where_the_latent_is():
    """A site's levels are made on the CPU, for they cross the wire."""
    latent = torch.empty(2, 1, 4, 4, device="meta")
    scales = CosineSchedule().scales(torch.tensor([10, 300]), latent)
    assert {scale.device for scale in scales} == {latent.device}


def models_on(device: torch.device, change: dict, folder, monkeypatch) -> dict[str, torch.Tensor]:
    """Return the server's weights after a run in two processes, the second of which resumes the first."""
    monkeypatch.setattr(tiny_job, "CPU", device)
    with SimulatedDevice() if device == DEVICE else nullcontext():
        Federation(tiny_config(change), folder).run(1)
        federation = Federation(tiny_config(change, resume_from="latest"), folder)
        federation.run()
    assert not federation.coordinator.finish()["failures"]
    return {
        f"{name}.{key}": on_cpu(tensor)
        for name, copy in federation.copies.items()
        for key, tensor in copy.segments.state_dict().items()
    }


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"release": {"mode": "once"}, "algorithm": {"name": "scaffold"}},
        {"release": {"mode": "once"}, "wire": {"pipeline_depth": 2}},
    ],
)
def test_everything_is_brought_to_the_device_and_nothing_left_behind(change, tmp_path, monkeypatch):
    """On a device that refuses what was left on the CPU the run ends, and with the CPU's numbers."""
    for name in ("Adam", "AdamW"):
        monkeypatch.setattr(optimisers, name, unfused(getattr(optimisers, name)))
    # The simulation holds for one thread.
    for releases in (fresh, once):
        monkeypatch.setattr(releases, "one_ahead", lambda make, items: (make(item) for item in items))
    monkeypatch.setattr(once, "Pipeline", InTurn)
    expected = models_on(CPU, change, tmp_path / "cpu", monkeypatch)
    found = models_on(DEVICE, change, tmp_path / "device", monkeypatch)
    assert tiny_job.equal_tensors(found, expected)
