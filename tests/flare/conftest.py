import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

JOB = Path(__file__).parents[2] / "jobs" / "mucald"
TIMEOUT_S = 240


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Path]:
    """Write a copy of the main job, small enough to run in seconds; keyword arguments replace sections."""

    def make(name: str = "tiny", **changes: Any) -> Path:
        job = tmp_path / name
        config = json.loads((JOB / "app/config/mucald.json").read_text())
        config["sites"] = {site: config["sites"][site] for site in ("embryo", "skin", "polyp")}
        config["data"] = {"image_size": 16, "phantoms": {"train": 6, "validation": 3, "test": 3}}
        config["training"] = {"rounds": 2, "local_epochs": 1, "batch_size": 3}
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


@pytest.fixture
def simulate(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``nvflare simulator`` on a job, in a process of its own."""

    def run(job: Path, workspace: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).with_name("nvflare"), "simulator", job, "-w", tmp_path / workspace]
        return subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    return run
