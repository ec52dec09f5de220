"""The family whose weights travel, in FLARE's simulator, each participant in a process of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_job import REPOSITORY

from mucald.federation.in_process import run_in_process
from mucald.methods import family_of
from mucald.methods.jobs import load_job
from mucald.methods.weights.config import WeightsConfig
from mucald.methods.weights.shared_weights import first_weights
from mucald.state.checkpoint import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JOB = REPOSITORY / "jobs/fedavg"
SMALL = {
    "sites": {"embryo": {"task": "blastocyst"}, "skin": {"task": "ham10k"}, "polyp": {"task": "kvasir"}},
    "data": {"image_size": 16, "phantoms": {"train": 6, "validation": 3, "test": 3}},
    "training": {"rounds": 2, "local_epochs": 1, "batch_size": 3},
    "network": {"features": [8, 16, 16], "cut": 1, "latent_channels": 4},
}
INCIDENTAL = ("run_id", "timing")
EXCLUDED = "middle.entry.0.conv.weight"


@pytest.fixture
def small_job(tmp_path: Path) -> Callable[..., Path]:
    """Write a copy of jobs/fedavg, small enough to run in seconds; keywords join FLARE's client file."""

    def make(**client: Any) -> Path:
        job = tmp_path / "job"
        for source in (path for path in JOB.rglob("*") if path.is_file()):
            target = job / source.relative_to(JOB)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
        config = job / "app/config"
        content = json.loads((config / "mucald.json").read_text())
        (config / "mucald.json").write_text(json.dumps(content | {"set": SMALL}))
        flare = json.loads((config / "config_fed_client.json").read_text())
        (config / "config_fed_client.json").write_text(json.dumps(flare | client))
        meta = json.loads((job / "meta.json").read_text())
        (job / "meta.json").write_text(
            json.dumps(meta | {"deploy_map": {"app": ["server", *SMALL["sites"]]}})
        )
        return job

    return make


def results(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "results.json").read_text())
    return {key: value for key, value in content.items() if key not in INCIDENTAL}


def shared(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "models/shared.safetensors")[0]


def run_local(job: Path, folder: Path) -> Path:
    config, sites = load_job(job)
    family = family_of(config.method)
    run_in_process(family, config, sites, folder, lambda name: folder / "home" / name, workers=2)
    return folder / "server"


def test_the_simulator_gives_the_numbers_of_one_process(tmp_path, small_job, simulate):
    job = small_job()
    local = run_local(job, tmp_path / "local")
    done = simulate(job, "workspace", "-t", "3")
    assert done.returncode == 0, done.stdout
    server = tmp_path / "workspace/server/simulate_job"
    assert results(server) == results(local)
    assert all(torch.equal(tensor, shared(local)[name]) for name, tensor in shared(server).items())


def test_the_filters_of_a_site_act_on_what_it_sends(tmp_path, small_job, simulate):
    filters = [
        {
            "path": "nvflare.app_common.filters.exclude_vars.ExcludeVars",
            "args": {"exclude_vars": [EXCLUDED]},
        },
        {
            "path": "nvflare.app_common.filters.percentile_privacy.PercentilePrivacy",
            "args": {"percentile": 60, "gamma": 0.01},
        },
    ]
    job = small_job(task_result_filters=[{"tasks": ["train"], "filters": filters}])
    local = run_local(job, tmp_path / "local")
    done = simulate(job, "workspace", "-t", "3")
    assert done.returncode == 0, done.stdout
    server = tmp_path / "workspace/server/simulate_job"
    found, unfiltered = shared(server), shared(local)
    assert results(server)["failures"] == []
    config, _ = load_job(job)
    assert isinstance(config, WeightsConfig)
    initial = first_weights(config, config.shared, list(config.sites))
    assert torch.equal(found[EXCLUDED], initial[EXCLUDED]), "nobody has sent it"
    assert not torch.equal(unfiltered[EXCLUDED], initial[EXCLUDED])
    still = {name: float((found[name] == tensor).float().mean()) for name, tensor in initial.items()}
    moved = {name: float((unfiltered[name] == tensor).float().mean()) for name, tensor in initial.items()}
    name = "middle.entry.1.conv.weight"
    assert moved[name] < 0.05 < 0.1 < still[name], "six of ten changes were kept back by every site"
