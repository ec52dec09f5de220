"""What would keep a participant from taking part, found before it is started."""

import datetime
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from mucald.data.loading import loader_of
from mucald.data.site_file import SITE_FILE, has_site_file, read_site_file
from mucald.deploy.kits import ALLOW_LIST, AUTHORIZATION, CLASSES, Kit, left_by_earlier_version
from mucald.errors import MucaldError
from mucald.privacy.policy import read_policy
from mucald.tasks import get_task

PACKAGES = (
    "nvflare",
    "mucald",
    "torch",
    "monai",
    "nibabel",
    "numpy",
    "scipy",
    "tensorboard",
    "safetensors",
    "PIL",
)
SHORTEST_VALIDITY = datetime.timedelta(days=30)
LEAST_SPACE_GIB = 2
MENDED = "; run this without --check"
_CONNECT_TIMEOUT_S = 3.0
_START_TIMEOUT_S = 60.0
_CERTIFICATES = {"server": "server.crt", "site": "client.crt", "admin": "client.crt"}
_MISSING = "import importlib.util as u; print(*[n for n in {names!r} if u.find_spec(n) is None], sep=', ')"


@dataclass(frozen=True)
class Finding:
    """Something to know before a participant is started.

    Args:
        text: what is the matter and what mends it.
        hinders: whether the participant cannot take part as it is.
    """

    text: str
    hinders: bool = True


def check_kit(kit: Kit) -> list[Finding]:
    """Check a kit on the machine where it is to run; every check names what mends its finding."""
    findings = [*_spaces(kit), *_certificates(kit)]
    if kit.kind == "admin":
        return [*findings, *_packages(), *_server_reachable(kit)]
    if not kit.in_container:  # an image has packages of its own
        findings += _packages()
    findings += [*_resources(kit), *_space(kit)]
    return findings + list(_server(kit) if kit.kind == "server" else _site(kit))


def _spaces(kit: Kit) -> Iterator[Finding]:
    if len(str(kit.folder).split()) > 1:
        yield Finding(f"{kit.folder}: FLARE's start.sh needs a path without spaces; move the kit")


def _packages() -> Iterator[Finding]:
    # FLARE's start scripts call python3, whatever interpreter runs this check.
    python = shutil.which("python3")
    if python is None:
        yield Finding("there is no python3 on the PATH, which FLARE's start scripts call")
        return
    command = [python, "-c", _MISSING.format(names=PACKAGES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_START_TIMEOUT_S, check=False)
    missing = done.stdout.strip() or done.stderr.strip()
    if missing:
        yield Finding(
            f"{python} lacks {missing}; start.sh calls this python3: activate the environment in which "
            f"'pip install -r requirements.txt' was run"
        )


def _certificates(kit: Kit) -> Iterator[Finding]:
    startup = kit.folder / "startup"
    path, root = startup / _CERTIFICATES[kit.kind], startup / "rootCA.pem"
    try:
        certificate, authority = (x509.load_pem_x509_certificate(p.read_bytes()) for p in (path, root))
        certificate.verify_directly_issued_by(authority)
    except FileNotFoundError as error:
        yield Finding(f"{error.filename} is missing; copy the whole kit again")
        return
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a certificate, a new kit mends it
        yield Finding(f"{path} does not belong to {root.name} ({type(error).__name__}); provision a new kit")
        return
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    if left < SHORTEST_VALIDITY:
        yield Finding(f"{path} is valid for {left.days} more days; provision again", hinders=left.days < 0)
    if not path.with_suffix(".key").exists():
        yield Finding(f"{path.with_suffix('.key')} is missing; copy the whole kit again")


def _resources(kit: Kit) -> Iterator[Finding]:
    try:
        resources = kit.resources()
    except MucaldError as error:
        yield Finding(f"{kit.folder / 'local'}: {error}")
        return
    yield from map(Finding, left_by_earlier_version(kit))
    needed = CLASSES[kit.kind]
    prefixes = resources.get(ALLOW_LIST, [])
    if not any(p == "*" or needed == p or needed.startswith(p.rstrip(".") + ".") for p in prefixes):
        yield Finding(f"{ALLOW_LIST} lacks {needed}, so jobs without code are refused{MENDED}")
    if kit.kind == "site" and resources.get("allow_log_streaming") is not False:
        yield Finding(
            f"allow_log_streaming is on: the site's error log, which names files, goes to the server{MENDED}"
        )


def _space(kit: Kit) -> Iterator[Finding]:
    free = shutil.disk_usage(kit.folder).free / 2**30
    if free < LEAST_SPACE_GIB:
        yield Finding(f"{free:.1f} GiB are free at {kit.folder}; checkpoints need at least {LEAST_SPACE_GIB}")


def _server(kit: Kit) -> Iterator[Finding]:
    storage = kit.resources()["snapshot_persistor"]["args"]["storage"]
    for folder in (kit.job_store, storage["args"]["root_dir"]):
        if not Path(folder).is_relative_to(kit.workspace):
            yield Finding(f"{folder} lies outside the kit, where a reboot may delete it{MENDED}")
    host, port = kit.address
    if not _is_running(kit):
        try:
            with closing(socket.create_server((_resolve(host) or "", port))):
                pass
        except OSError as error:
            yield Finding(
                f"port {port} cannot be opened ({error.strerror}); end what uses it, or provision another"
            )


def _site(kit: Kit) -> Iterator[Finding]:
    if not (kit.folder / "local" / AUTHORIZATION).exists():
        yield Finding(
            f"local/{AUTHORIZATION} is missing, so a job may bring its own code and the project's admin may "
            f"read files here{MENDED}"
        )
    yield from _policy(kit)
    yield from _images(kit)
    yield from _server_reachable(kit)


def _policy(kit: Kit) -> Iterator[Finding]:
    try:
        read_policy(kit.home, kit.name)
    except MucaldError as error:
        yield Finding(str(error))


def _images(kit: Kit) -> Iterator[Finding]:
    path = kit.home / SITE_FILE
    if not has_site_file(kit.home):
        yield Finding(f"there is no {path}, so the site would train on phantoms", hinders=False)
        return
    try:
        site_file = read_site_file(path)
        task = get_task(site_file.task)
        count = loader_of(task).check(site_file, task)
    except MucaldError as error:
        yield Finding(str(error))
        return
    yield Finding(f"{count} images with masks can be read", hinders=False)


def _server_reachable(kit: Kit) -> Iterator[Finding]:
    host, port = kit.address
    if _resolve(host) is None:
        yield Finding(f"the server's name '{host}' is not known to this machine; ask for a DNS entry")
        return
    try:
        with closing(socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S)):
            pass
    except OSError as error:
        yield Finding(
            f"{host}:{port} does not answer ({error}): the server is not started, or a firewall lies between",
            hinders=False,
        )


def _resolve(host: str) -> str | None:
    try:
        return str(socket.getaddrinfo(host, None, family=socket.AF_INET)[0][4][0])
    except OSError:
        return None


def _is_running(kit: Kit) -> bool:
    """Whether start.sh has started this kit's process and it lives."""
    try:
        os.kill(int((kit.folder / "pid.fl").read_text()), 0)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return False
    return True
