"""Reads what a server has recorded of a run: the messages that really crossed, decoded.

Written by :mod:`mucald.wire.recorder`, which describes the files.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mucald.config.schema import parse, read_json
from mucald.errors import ConfigError, RecordingError, WireError
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.wire.messages import VERSION, Message, Phase, decode
from mucald.wire.recorder import FOLDER, HEADER, LENGTHS, SCHEMA, index_path, messages_path, read_index

_RESULTS = "results.json"


@dataclass(frozen=True)
class Exchange:
    """One request of a site and the server's reply, decoded and as the bytes that crossed."""

    site: str
    request: Message
    reply: Message
    request_bytes: bytes
    reply_bytes: bytes


@dataclass(frozen=True)
class Recording:
    """The traffic of one run, as its server saw it.

    Args:
        folder: where the files lie.
        config: the job.
        run_id: names the run.
        sites: whose messages there are.
    """

    folder: Path
    config: SplitConfig
    run_id: str
    sites: tuple[str, ...]

    @property
    def run_folder(self) -> Path:
        """The server's run folder."""
        return self.folder.parent

    def exchanges(
        self, site: str, *phases: Phase, rounds: Container[int] | None = None
    ) -> Iterator[Exchange]:
        """Yield a site's exchanges in their order, of all phases and rounds or of those given.

        Raises:
            RecordingError: there are none of the site, or its files are cut off or damaged.
        """
        if site not in self.sites:
            raise RecordingError(
                f"{self.folder} holds no message of site '{site}', only of {', '.join(self.sites)}"
            )
        wanted = {phase.name for phase in phases}
        path = messages_path(self.folder, site)
        with path.open("rb") as file:
            for number, entry in enumerate(read_index(index_path(self.folder, site))):
                of_phase = not wanted or entry["phase"] in wanted
                if of_phase and (rounds is None or entry["round"] in rounds):
                    file.seek(entry["offset"])
                    data = file.read(LENGTHS.size + entry["request"] + entry["reply"])
                    yield _exchange(path, site, number, entry, data)


def _exchange(path: Path, site: str, number: int, entry: dict[str, Any], data: bytes) -> Exchange:
    where = f"{path}: exchange {number + 1} ({entry['phase']}, round {entry['round']}, step {entry['step']})"
    split = LENGTHS.size + entry["request"]
    if len(data) < split + entry["reply"]:
        raise RecordingError(
            f"{where} is cut off; the run was stopped while writing: resume it, which repairs the file"
        )
    if LENGTHS.unpack_from(data) != (entry["request"], entry["reply"]):
        raise RecordingError(f"{where} has other lengths than the index; the recording is damaged")
    try:
        request, reply = data[LENGTHS.size : split], data[split:]
        return Exchange(site, decode(request), decode(reply), request, reply)
    except WireError as error:
        raise RecordingError(f"{where} is damaged: {error}") from None


def read_recording(folder: Path) -> Recording:
    """Open the recording at or below ``folder``: a run's workspace, its server's run folder, or itself.

    Raises:
        RecordingError: there is no run, no recording or more than one, it is of another version, or of
            another run than the results beside it.
    """
    if not folder.is_dir():
        raise RecordingError(f"{folder} is no folder; give the workspace of a run")
    found = [path for path in sorted(folder.rglob(HEADER)) if path.parent.name == FOLDER]
    if not found and not any(folder.rglob(_RESULTS)):
        raise RecordingError(f"{folder} holds no run; give the workspace of one")
    if not found:
        raise RecordingError(
            f"{folder}: the run recorded nothing; set runtime.record to true in its mucald.json and run again"
        )
    if len(found) > 1:
        raise RecordingError(
            f"{folder} holds several recordings; name one: {', '.join(str(path.parent) for path in found)}"
        )
    return _open(found[0])


def _open(path: Path) -> Recording:
    try:
        header = read_json(path)
    except ConfigError as error:
        raise RecordingError(f"{path}: {error}") from None
    version = f"package version {header.get('version')}"
    for key, ours in (("schema", SCHEMA), ("protocol", VERSION)):
        if header.get(key) != ours:
            raise RecordingError(
                f"{path}: {key} {header.get(key)} of {version}, this one reads {ours}; "
                "install that version to read it"
            )
    try:
        config = parse(SplitConfig, header["config"])
        run_id, digest = str(header["run_id"]), header["digest"]
    except (ConfigError, KeyError) as error:
        raise RecordingError(f"{path}: written by {version}, which this one cannot read: {error}") from None
    if digest != config.digest():
        raise RecordingError(f"{path}: the configuration does not fit its digest; the header was changed")
    results = path.parent.parent / _RESULTS
    if results.exists() and (other := read_json(results).get("run_id")) != run_id:
        raise RecordingError(
            f"{path.parent} is of run {run_id}, but {results} is of run {other}; "
            "record that run anew, or remove the results of the other"
        )
    sites = tuple(sorted(file.stem for file in path.parent.glob("*.index")))
    if not sites:
        raise RecordingError(f"{path.parent}: run {run_id} recorded no message: stopped, or all data pooled")
    return Recording(path.parent, config, run_id, sites)
