"""A job folder in FLARE's simulator through its job API."""

import json
import subprocess
import sys

import pytest
from tiny_job import REPOSITORY, in_one_process

from mucald.methods.jobs import load_job


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_the_job_api_gives_the_numbers_of_one_process(tmp_path, make_job, start_simulator):
    job = make_job()
    command = [sys.executable, REPOSITORY / "tools/simulate.py", job, "-w", tmp_path / "workspace"]
    done = start_simulator(command)
    assert done.returncode == 0, done.stdout
    config, sites = load_job(job)
    in_one_process(config, sites, tmp_path / "local", tmp_path / "home")
    found, expected = (
        json.loads((folder / "results.json").read_text())
        for folder in (
            tmp_path / "workspace" / config.name / "server/simulate_job",
            tmp_path / "local/server",
        )
    )
    for key in expected.keys() - {"run_id", "timing"}:
        assert found[key] == expected[key], key


def test_a_wrong_job_ends_with_its_reason(tmp_path, make_job):
    job = make_job(traning={})
    command = [sys.executable, REPOSITORY / "tools/simulate.py", job, "-w", tmp_path / "workspace"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "did you mean 'training'?" in done.stderr
