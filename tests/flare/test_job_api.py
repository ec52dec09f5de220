"""A job folder in FLARE's simulator through its job API."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tiny_job import REPOSITORY, in_one_process

from mucald.home import HOME_VARIABLE
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


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_simulation_that_is_stopped_ends_with_all_its_processes_and_says_how_to_go_on(tmp_path, make_job):
    job = make_job(training=load_job(REPOSITORY / "jobs/mucald")[0].to_dict()["training"] | {"rounds": 200})
    command = [sys.executable, REPOSITORY / "tools/simulate.py", job, "-w", tmp_path / "workspace"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "round 1/200" in line:
            break
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - begun < 5
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in output
    (run,) = (tmp_path / "workspace").glob("*.mucald/server/runs/*")
    last = output.strip().splitlines()[-1]
    assert last == f"stopped; to go on, set resume_from to '{run.name}' in the job and give the same command"
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in left


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_site_that_cannot_write_is_left_out_of_a_simulation_with_its_reason(
    tmp_path, make_job, start_simulator, monkeypatch
):
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    (tmp_path / "home/skin").mkdir(parents=True)
    (tmp_path / "home/skin/runs").write_text("a file where a folder has to be")
    job = make_job()
    command = [sys.executable, REPOSITORY / "tools/simulate.py", job, "-w", tmp_path / "workspace"]
    done = start_simulator(command)
    assert done.returncode == 0, done.stdout
    (results,) = (tmp_path / "workspace").glob("*/server/simulate_job/results.json")
    found = json.loads(results.read_text())
    assert set(found["sites"]) == {"embryo", "polyp"}
    assert {(one["site"], one["reason"]) for one in found["failures"]} == {
        ("skin", "could not write a checkpoint: Not a directory")
    }
