"""Start-up kits and certificates of a provisioned project, for measurements under mutual TLS."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from mucald.errors import ConfigError

_PROVISION_S = 120


@dataclass(frozen=True)
class Certificates:
    """Paths of one participant's files in PEM: the project's authority, its own certificate, and its key."""

    authority: str
    certificate: str
    key: str

    def read(self, name: str) -> bytes:
        """Return the content of one of the files by the name of its field."""
        return Path(getattr(self, name)).read_bytes()


def provision(project: Path, folder: Path) -> Path:
    """Provision a project, given FLARE's project file, in ``folder``, and return the folder of its kits.

    Raises:
        ConfigError: FLARE refused the project.
    """
    nvflare = str(Path(sys.executable).with_name("nvflare"))
    command = [nvflare, "provision", "-p", str(project), "-w", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PROVISION_S, check=False)
    if done.returncode != 0:
        raise ConfigError(f"nvflare provision -p {project} failed: {done.stderr.strip()[-500:]}")
    return folder / yaml.safe_load(project.read_text(encoding="utf-8"))["name"] / "prod_00"


def provisioned(project: Path, folder: Path) -> dict[str, Certificates]:
    """Provision a project and return the certificates of its server, called ``server``, and its sites.

    Arguments and errors are those of :func:`provision`.
    """
    kits, found = provision(project, folder), {}
    for participant in yaml.safe_load(project.read_text(encoding="utf-8"))["participants"]:
        kind, name = participant["type"], participant["name"]
        if kind in ("server", "client"):
            files = (kits / name / "startup" / file for file in ("rootCA.pem", f"{kind}.crt", f"{kind}.key"))
            found["server" if kind == "server" else name] = Certificates(*map(str, files))
    return found
