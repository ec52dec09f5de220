"""The family of synthetic embeddings in FLARE's simulator, each participant in a process of its own."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_job import REPOSITORY

from mucald.federation.in_process import run_in_process
from mucald.methods import family_of
from mucald.methods.jobs import load_job

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JOB = REPOSITORY / "jobs/dpcvae"
SITES = ("site_01", "site_02", "site_03")
SMALL = {
    "sites": {site: {"task": "phantom_kind"} for site in SITES},
    "data.phantoms": {"train": 28, "validation": 14, "test": 14},
    "training.local_epochs": 3,
}


def results(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "results.json").read_text())
    return {key: value for key, value in content.items() if key not in ("run_id", "timing")}


def test_the_simulator_gives_the_numbers_of_one_process(tmp_path, simulate):
    job = tmp_path / "job"
    for source in (path for path in JOB.rglob("*") if path.is_file()):
        target = job / source.relative_to(JOB)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    content = json.loads((job / "app/config/mucald.json").read_text())
    (job / "app/config/mucald.json").write_text(json.dumps(content | {"set": SMALL}))
    meta = json.loads((job / "meta.json").read_text())
    (job / "meta.json").write_text(json.dumps(meta | {"deploy_map": {"app": ["server", *SITES]}}))
    config, sites = load_job(job)
    local = tmp_path / "local"
    run_in_process(
        family_of(config.method), config, sites, local, lambda name: local / "home" / name, workers=1
    )
    done = simulate(job, "workspace", "-t", "3")
    assert done.returncode == 0, done.stdout
    server = tmp_path / "workspace/server/simulate_job"
    assert results(server) == results(local / "server")
    assert results(server)["failures"] == []
