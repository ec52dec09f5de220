import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mucald.methods.jobs import load_job
from mucald_studies.benchmark.processes import end

JOB = Path(__file__).parents[1] / "jobs" / "mucald"
TIMEOUT_S = 500
PORT_TAKEN = "Address already in use"


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Path]:
    """Write a copy of the main job, small enough to run in seconds; keyword arguments replace sections."""

    def make(name: str = "tiny", **changes: Any) -> Path:
        job = tmp_path / name
        config = load_job(JOB)[0].to_dict()
        config["sites"] = {site: config["sites"][site] for site in ("embryo", "skin", "polyp")}
        config["data"] = {"image_size": 16, "phantoms": {"train": 6, "validation": 3, "test": 3}}
        config["training"] |= {"rounds": 2, "local_epochs": 1, "batch_size": 3}
        config["release"] |= {"pretraining_epochs": 1}
        config["handover"] |= {"epochs": 1}
        config["network"] |= {"features": [8, 16, 16], "cut": 1, "latent_channels": 4}
        config["crdm"] |= {"encoder_width": 8, "causal_hidden": 8, "denoiser_width": 8}
        config["daca"] |= {"width": 8, "buffer": 6, "steps": 2, "batch_per_site": 3}
        for key, value in changes.items():
            config[key] = value
        (job / "app").mkdir(parents=True)
        for folder in ("config", "custom"):
            (job / "app" / folder).mkdir()
            for source in (JOB / "app" / folder).iterdir():
                (job / "app" / folder / source.name).write_bytes(source.read_bytes())
        meta = json.loads((JOB / "meta.json").read_text())
        meta["deploy_map"] = {"app": ["server", *config["sites"]]}
        (job / "meta.json").write_text(json.dumps(meta))
        (job / "app/config/mucald.json").write_text(json.dumps(config))
        return job

    return make


def run_simulator(command: list[Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that starts FLARE's simulator, anew where another process took a port that it had chosen.

    It looks for free ports and listens on them seconds later; without its port it waits for ever.
    """
    log = folder / "simulator.log"
    for _ in range(3):
        with log.open("w") as stream:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        begun = time.monotonic()
        while process.poll() is None and PORT_TAKEN not in log.read_text():
            if time.monotonic() - begun > TIMEOUT_S:
                end(process)
                pytest.fail(f"{command} did not end in {TIMEOUT_S} s:\n{log.read_text()}")
            time.sleep(0.2)
        if process.poll() is not None:
            return subprocess.CompletedProcess(command, process.returncode, log.read_text())
        end(process)
    pytest.fail(f"{command} lost its port three times:\n{log.read_text()}")


@pytest.fixture
def start_simulator(tmp_path: Path) -> Callable[[list[Any]], subprocess.CompletedProcess[str]]:
    """Run a command that starts FLARE's simulator; what it says is all in ``stdout``."""
    return lambda command: run_simulator(command, tmp_path)


@pytest.fixture
def simulate(tmp_path: Path, start_simulator: Any) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``nvflare simulator`` on a job, in a process of its own; what it says is all in ``stdout``."""

    def run(job: Path, workspace: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name("nvflare"), "simulator", job, "-w", tmp_path / workspace]
        return start_simulator([*command, *arguments])

    return run
