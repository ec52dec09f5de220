"""Start-up kits: what ``nvflare provision`` makes for a participant, and what this project adds to one."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mucald.config.schema import read_json
from mucald.data.site_file import PATHS, SITE_FILE, absolute, has_site_file
from mucald.errors import ConfigError, MucaldError
from mucald.home import PROVISIONED_HOME, participant_home
from mucald.privacy.policy import POLICY_FILE, read_policy
from mucald.state.files import write_atomically

Kind = Literal["server", "site", "admin"]

RESOURCES = "resources.json"
AUTHORIZATION = "authorization.json"
ALLOW_LIST = "class_allow_list"
CLASSES: dict[Kind, str] = {
    "server": "mucald.flare.controller.FederationController",
    "site": "mucald.flare.executor.MethodExecutor",
}
"""What a job names, by whose process it runs in."""

_EARLIER_CLASSES = frozenset(
    {"mucald.flare.controller.SplitFedController", "mucald.flare.executor.SplitFedExecutor"}
)
_STARTUP: dict[str, Kind] = {
    "fed_server.json": "server",
    "fed_client.json": "site",
    "fed_admin.json": "admin",
}
_PROCESS_LAUNCHER = "process_launcher"
_PRIVATE_KEYS = ("server.key", "client.key")


@dataclass(frozen=True)
class Kit:
    """A participant's start-up kit.

    Args:
        folder: the kit, absolute.
        kind: whose it is.
        startup: content of its start-up file.
    """

    folder: Path
    kind: Kind
    startup: dict[str, Any]

    @property
    def name(self) -> str:
        """The participant's name."""
        return str(self.startup["client"]["fqsn"]) if self.kind == "site" else self.folder.name

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server."""
        if self.kind == "admin":
            return str(self.startup["admin"]["host"]), int(self.startup["admin"]["port"])
        host, _, port = str(self.startup["servers"][0]["service"]["target"]).partition(":")
        return host, int(port)

    @property
    def home(self) -> Path:
        """The participant's own folder, with ``site.json``, secrets and checkpoints."""
        return participant_home(self.folder / PROVISIONED_HOME, self.name)

    @property
    def in_container(self) -> bool:
        """Whether ``nvflare deploy prepare`` has made it a kit for Docker or Kubernetes."""
        return _PROCESS_LAUNCHER not in {component["id"] for component in self.resources()["components"]}

    @property
    def workspace(self) -> Path:
        """The kit's folder as its own processes see it; on a server in a container that is another one."""
        return Path(self.job_store).parent if self.in_container and self.kind == "server" else self.folder

    @property
    def job_store(self) -> str:
        """Where a server keeps jobs and their results."""
        (store,) = (c["args"]["uri_root"] for c in self.resources()["components"] if c["id"] == "job_manager")
        return str(store)

    def resources(self) -> dict[str, Any]:
        """Return what ``local`` says at present: the edited file, or else FLARE's default.

        Raises:
            ConfigError: neither is there, or it is not JSON.
        """
        edited = self.folder / "local" / RESOURCES
        return read_json(edited if edited.exists() else edited.with_name(f"{RESOURCES}.default"))


def open_kit(folder: Path) -> Kit:
    """Recognise a start-up kit.

    Raises:
        ConfigError: the folder is none.
    """
    for name, kind in _STARTUP.items():
        if (folder / "startup" / name).exists():
            return Kit(folder.resolve(), kind, read_json(folder / "startup" / name))
    raise ConfigError(
        f"{folder} is no start-up kit: its folder 'startup' holds none of {', '.join(_STARTUP)}; "
        f"kits lie in <workspace>/<project>/prod_NN"
    )


def left_by_earlier_version(kit: Kit) -> Iterator[str]:
    """Yield what an earlier version of this package has laid into a kit and this one cannot use.

    Raises:
        ConfigError: the kit's resources are damaged.
    """
    if kit.kind == "admin":
        return
    for name in sorted(_EARLIER_CLASSES & set(kit.resources().get(ALLOW_LIST, []))):
        yield (
            f"{kit.folder / 'local' / RESOURCES} is of an earlier version: {ALLOW_LIST} names {name}, but "
            f"jobs name {CLASSES[kit.kind]}; run 'mucald setup {kit.folder}' and start again"
        )


def faults_at_start(folder: Path) -> list[str]:
    """Return what keeps a site from taking part in any job, as far as it can be told without an image.

    Args:
        folder: its start-up kit.
    """
    found: list[str] = []
    try:
        kit = open_kit(folder)
        found += left_by_earlier_version(kit)
        read_policy(kit.home, kit.name)
    except MucaldError as error:
        found.append(str(error))
    return found


def set_up(kit: Kit, templates: Path, site_file: Path | None = None) -> list[str]:
    """Lay the templates into a kit; a second call changes nothing.

    What the templates' ``resources.json`` says is merged into the kit's; all else there stays, but for the
    classes of an earlier version, which no job names any more. Files that people edit
    (``authorization.json``, ``policy.json``) are written only where they are absent.

    Args:
        kit: the kit.
        templates: folder ``workspace_templates``.
        site_file: the site's ``site.json``; it replaces the kit's, its paths made absolute.

    Returns:
        the files that were written.

    Raises:
        ConfigError: a template or a file of the kit is damaged.
    """
    written = list(_restrict_keys(kit))
    if kit.kind == "admin":
        return written
    source = templates / kit.kind
    # The path as JSON writes it, without its quotation marks.
    workspace = json.dumps(str(kit.workspace))[1:-1]
    changes = json.loads(json.dumps(read_json(source / RESOURCES)).replace("{kit}", workspace))
    resources = merge(kit.resources(), changes)
    resources[ALLOW_LIST] = [name for name in resources[ALLOW_LIST] if name not in _EARLIER_CLASSES]
    written += _write(kit.folder / "local" / RESOURCES, resources)
    if (source / AUTHORIZATION).exists():
        written += _copy(source / AUTHORIZATION, kit.folder / "local" / AUTHORIZATION)
    if kit.kind == "site":
        kit.home.mkdir(parents=True, exist_ok=True)
        kit.home.chmod(0o700)
        if site_file is not None:
            written += _write(kit.home / SITE_FILE, _moved(site_file))
        # A site that trains on phantoms has nothing to protect, and takes part in every job.
        if has_site_file(kit.home):
            written += _copy(source / POLICY_FILE, kit.home / POLICY_FILE)
    return written


def _moved(site_file: Path) -> dict[str, Any]:
    """Return a site file's content for another folder: what is relative to its own becomes absolute."""
    content = read_json(site_file)
    for key in PATHS:
        if isinstance(content.get(key), str):
            content[key] = absolute(site_file, key, content[key])
    return content


def merge(value: Any, change: Any) -> Any:
    """Return ``value`` with ``change`` merged into it.

    Objects are merged key by key. Objects of a list are merged with the one of the same ``id``, or of the
    same place where they have none; an ``id`` that the kit lacks is left out, since a container's launcher
    stands in for that of processes. Other entries of a list are added once.
    """
    if isinstance(value, dict) and isinstance(change, dict):
        if "path" in change:  # another class does not take the arguments of the one before
            return value | change
        return value | {key: merge(value.get(key), new) for key, new in change.items()}
    if isinstance(value, list) and isinstance(change, list):
        return _merge_lists(value, change)
    return change


def _merge_lists(value: list[Any], change: list[Any]) -> list[Any]:
    merged = list(value)
    for place, new in enumerate(change):
        if not isinstance(new, dict):
            merged += [] if new in merged else [new]
        elif "id" in new:
            merged = [merge(old, new) if old.get("id") == new["id"] else old for old in merged]
        else:
            merged[place] = merge(merged[place], new)
    return merged


def _restrict_keys(kit: Kit) -> Iterator[str]:
    """Make private keys readable for their owner alone."""
    for path in (kit.folder / "startup" / name for name in _PRIVATE_KEYS):
        if path.exists() and path.stat().st_mode & 0o077:
            path.chmod(0o600)
            yield str(path)


def _write(path: Path, content: dict[str, Any]) -> list[str]:
    data = (json.dumps(content, indent=2) + "\n").encode()
    if path.exists() and path.read_bytes() == data:
        return []
    write_atomically(path, data)
    return [str(path)]


def _copy(source: Path, target: Path) -> list[str]:
    if target.exists():
        return []
    shutil.copyfile(source, target)
    return [str(target)]
