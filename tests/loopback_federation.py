"""The shipped project, provisioned for tests on the loopback interface."""

import contextlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from mucald_studies.benchmark.carriers import loopback as shipped
from mucald_studies.benchmark.carriers.loopback import LEAD, START_S, free_port

__all__ = [
    "LEAD",
    "REPOSITORY",
    "TEMPLATES",
    "Loopback",
    "free_port",
    "loopback",
    "provision",
    "write_main_job",
]
REPOSITORY = Path(__file__).parents[1]
TEMPLATES = REPOSITORY / "workspace_templates"


def write_main_job(folder: Path, content: dict[str, Any]) -> Path:
    """Write the main job with the name, sites and values of ``content``; return its folder in ``folder``."""
    job = shutil.copytree(REPOSITORY / "jobs/mucald", folder / content["name"])
    meta = json.loads((job / "meta.json").read_text())
    meta |= {"name": content["name"], "deploy_map": {"app": ["server", *content["sites"]]}}
    (job / "meta.json").write_text(json.dumps(meta))
    (job / "app/config/mucald.json").write_text(json.dumps(content))
    return job


def provision(folder: Path, sites: Sequence[str]) -> Path:
    return shipped.provision(TEMPLATES, folder, sites)


class Loopback(shipped.Loopback):
    def job_process(self, name: str, timeout_s: float = START_S) -> psutil.Process:
        """Wait for the process of the running job."""
        end = time.monotonic() + timeout_s
        while not (children := self.tree(name)[1:]):
            assert time.monotonic() < end, self.console(name)
            time.sleep(0.1)
        return children[0]

    def listening(self) -> list[str]:
        """Return the addresses on which any of the processes listens."""
        connections = (
            connection
            for name in self.processes
            for process in self.tree(name)
            for connection in process.net_connections()
        )
        return [connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN]


def loopback(folder: Path, sites: Sequence[str]) -> contextlib.AbstractContextManager[Loopback]:
    return Loopback.running(TEMPLATES, folder, sites)
