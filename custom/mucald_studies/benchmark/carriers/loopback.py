"""A provisioned federation on the loopback interface: start-up kits, processes, and their end."""

import contextlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil
import yaml

from mucald.deploy.kits import open_kit, set_up
from mucald.deploy.session import Federation, SubmissionError
from mucald.errors import TrainingError
from mucald_studies.benchmark.carriers import certificates
from mucald_studies.benchmark.processes import end, tree

SERVER = "localhost"
LEAD = "lead@coordination.org"
START_S = 120
# Below those that the system lends to outgoing connections: nothing else takes one before the server does.
_PORTS = range(20_000, 32_000)


def provision(templates: Path, folder: Path, sites: Sequence[str]) -> Path:
    """Provision the project of ``templates`` with other sites and a free port; return the kits' folder."""
    project = yaml.safe_load((templates / "project.yml").read_text(encoding="utf-8"))
    people = [p for p in project["participants"] if p["type"] == "admin"]
    server = {"name": SERVER, "type": "server", "org": "coordination", "fed_learn_port": free_port()}
    clients = [{"name": site, "type": "client", "org": f"{site}_clinic"} for site in sites]
    project["participants"] = [server, *clients, *people]
    file = folder / "project.yml"
    file.write_text(yaml.safe_dump(project), encoding="utf-8")
    return certificates.provision(file, folder / "provisioned")


def free_port() -> int:
    """Return a port of the loopback interface on which nobody listens.

    Raises:
        TrainingError: there is none.
    """
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise TrainingError(f"no port between {_PORTS.start} and {_PORTS.stop} is free")


@dataclass
class Loopback:
    """Server and sites as processes of this machine, with the ``templates`` laid into their start-up kits."""

    kits: Path
    sites: Sequence[str]
    templates: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (SERVER, *self.sites, LEAD):
            set_up(open_kit(self.kits / name), self.templates)

    @classmethod
    @contextlib.contextmanager
    def running(cls, templates: Path, folder: Path, sites: Sequence[str]) -> Iterator[Self]:
        """Provision, start everybody, wait until all are connected; leaving the context ends them.

        Raises:
            TrainingError: a site does not connect in time; the message has the server's output.
        """
        federation = cls(provision(templates, folder, sites), sites, templates)
        try:
            federation.start(SERVER)
            # Sites later: one that asks a server which listens but cannot answer yet gives up for good.
            federation.wait_for_server()
            for name in sites:
                federation.start(name)
            federation.wait_for_sites()
            yield federation
        finally:
            for name in list(federation.processes):
                federation.kill(name)

    @property
    def admin(self) -> Federation:
        """The federation as its lead sees it."""
        return Federation(self.kits / LEAD)

    def start(self, name: str, **variables: str) -> None:
        """Start a participant as start.sh does, but for its watchdog and with more ``variables``."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", **variables}
        with (self.kits / name / "console.txt").open("ab") as console:
            self.processes[name] = subprocess.Popen(
                ["bash", self.kits / name / "startup/sub_start.sh", "--once"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )

    def wait_for_server(self, timeout_s: float = START_S) -> None:
        """Wait until the server answers.

        Raises:
            TrainingError: it does not; the message has its output.
        """
        with self.admin as admin:
            try:
                admin.wait_for_server(timeout_s)
            except SubmissionError as error:
                raise TrainingError(f"{error}:\n{self.console(SERVER)}") from None

    def wait_for_sites(self, timeout_s: float = START_S) -> None:
        """Wait until all sites are connected.

        Raises:
            TrainingError: they are not; the message has the server's output.
        """
        with self.admin as admin:
            if absent := admin.wait_for_sites(self.sites, timeout_s):
                raise TrainingError(f"{', '.join(absent)} did not connect:\n{self.console(SERVER)}")

    def tree(self, name: str) -> list[psutil.Process]:
        """Return a participant's process and those that it started."""
        return tree(self.processes[name].pid)

    def kill(self, name: str) -> None:
        """End a participant at once, with all it started."""
        end(self.processes.pop(name))

    def console(self, name: str) -> str:
        """Return what a participant has printed."""
        return (self.kits / name / "console.txt").read_text(encoding="utf-8", errors="replace")
