"""A provisioned federation on the loopback interface: kits, processes, and their end."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from mucald.errors import MucaldError
from mucald.flare.kits import open_kit, set_up
from mucald.flare.session import Federation

REPOSITORY = Path(__file__).parents[2]
TEMPLATES = REPOSITORY / "workspace_templates"
LEAD = "lead@coordination.org"
START_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def provision(folder: Path, sites: Sequence[str]) -> Path:
    """Provision the shipped project with other sites and a free port; return the folder of the kits."""
    project = yaml.safe_load((TEMPLATES / "project.yml").read_text())
    people = [p for p in project["participants"] if p["type"] == "admin"]
    server = {"name": "localhost", "type": "server", "org": "coordination", "fed_learn_port": free_port()}
    clients = [{"name": site, "type": "client", "org": f"{site}_clinic"} for site in sites]
    project["participants"] = [server, *clients, *people]
    file = folder / "project.yml"
    file.write_text(yaml.safe_dump(project))
    nvflare = Path(sys.executable).with_name("nvflare")
    command = [nvflare, "provision", "-p", file, "-w", folder / "provisioned"]
    subprocess.run(command, check=True, capture_output=True, timeout=START_S)
    return folder / "provisioned" / project["name"] / "prod_00"


@dataclass
class Loopback:
    """Server and sites as processes of this machine; leaving the context ends them."""

    kits: Path
    sites: Sequence[str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("localhost", *self.sites, LEAD):
            set_up(open_kit(self.kits / name), TEMPLATES)

    @property
    def admin(self) -> Federation:
        return Federation(self.kits / LEAD)

    def start(self, name: str, **variables: str) -> None:
        """Start a participant as start.sh does, but for its watchdog and with more ``variables``."""
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            **variables,
        }
        with (self.kits / name / "console.txt").open("ab") as console:
            self.processes[name] = subprocess.Popen(
                ["bash", self.kits / name / "startup/sub_start.sh", "--once"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )

    def wait_for_sites(self, timeout_s: float = START_S) -> None:
        end = time.monotonic() + timeout_s
        with self.admin as admin:
            while True:
                with contextlib.suppress(MucaldError):
                    if admin.sites() == sorted(self.sites):
                        return
                assert time.monotonic() < end, self.console("localhost")
                time.sleep(0.5)

    def tree(self, name: str) -> list[psutil.Process]:
        """Return a participant's process and those that it started."""
        try:
            process = psutil.Process(self.processes[name].pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

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

    def kill(self, name: str) -> None:
        """End a participant at once, with all it started."""
        tree = self.tree(name)
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.processes.pop(name).wait()
        psutil.wait_procs(tree, timeout=10)

    def console(self, name: str) -> str:
        return (self.kits / name / "console.txt").read_text(errors="replace")


@contextlib.contextmanager
def loopback(folder: Path, sites: Sequence[str]) -> Iterator[Loopback]:
    federation = Loopback(provision(folder, sites), sites)
    try:
        for name in ("localhost", *sites):
            federation.start(name)
        federation.wait_for_sites()
        yield federation
    finally:
        for name in list(federation.processes):
            federation.kill(name)
