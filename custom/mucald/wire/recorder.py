"""Keeps what the server receives and answers, message by message, for attacks on what really crossed.

Off unless a job sets ``runtime.record``. In ``recording/`` of the server's run folder::

    header.json      format, run, configuration, versions
    <site>.messages  per exchange: request bytes u32 | reply bytes u32 | request | reply, little-endian
    <site>.index     per exchange one line of JSON: phase, round, step, offset, request, reply (bytes), crc

The index line is written after the messages, so what it lists is whole. Only messages are kept, hence no
image and no label: they never cross. Refused messages are not kept; what they hold has changed nothing.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

from mucald import __version__
from mucald.config.job import JobConfig
from mucald.errors import RecordingError
from mucald.wire.frame import VERSION, Data, Message

SCHEMA = 1
FOLDER = "recording"
HEADER = "header.json"
LENGTHS = struct.Struct("<II")


def messages_path(folder: Path, site: str) -> Path:
    """Return the file of a site's messages."""
    return folder / f"{site}.messages"


def index_path(folder: Path, site: str) -> Path:
    """Return the file that lists a site's messages."""
    return folder / f"{site}.index"


def read_index(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of an index; a line cut short by a stop is left out."""
    lines = path.read_text(encoding="ascii").split("\n") if path.exists() else [""]
    return [json.loads(line) for line in lines[:-1]]


def open_recorder(config: JobConfig, run_id: str, run_folder: Path) -> "Recorder | None":
    """Return the recorder of a run, or None where the job does not record.

    Raises:
        RecordingError: the disk refused it.
    """
    return Recorder(run_folder / FOLDER, config, run_id) if config.runtime.record else None


class Recorder:
    """Appends exchanges to one file per site; different sites may be appended to at once.

    A resumed run goes on with the files that it finds: a step that is repeated to the bit is not kept twice,
    and what a stop has cut off is removed. The recording of another run in the same folder is replaced, as
    its results are.

    Args:
        folder: where the files lie.
        config: the job.
        run_id: names the run.

    Raises:
        RecordingError: the disk refused it.
    """

    def __init__(self, folder: Path, config: JobConfig, run_id: str):
        self._folder = folder
        self._known: dict[str, set[tuple[Any, ...]]] = {}
        header = {
            "schema": SCHEMA,
            "protocol": VERSION,
            "version": __version__,
            "run_id": run_id,
            "digest": config.digest(),
            "config": config.to_dict(),
        }
        path = folder / HEADER
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (path.exists() and json.loads(path.read_text(encoding="ascii")).get("run_id") == run_id):
                for old in (*folder.glob("*.messages"), *folder.glob("*.index")):
                    old.unlink()
                path.write_text(json.dumps(header, indent=2), encoding="ascii")
        except (OSError, ValueError) as error:
            raise _unwritable(folder, error) from error

    def append(self, site: str, message: Message[Any, Any], request: Data, reply: bytes) -> None:
        """Keep one exchange. The caller holds the site's lock.

        Args:
            site: the sender.
            message: the request, decoded.
            request: the request as received.
            reply: the answer as sent.

        Raises:
            RecordingError: the disk refused it.
        """
        try:
            if site not in self._known:
                self._known[site] = self._repair(site)
            crc = zlib.crc32(reply, zlib.crc32(request))
            key = (message.phase.name, message.round, message.step, crc)
            if key in self._known[site]:
                return
            with messages_path(self._folder, site).open("ab") as file:
                offset = file.tell()
                file.write(LENGTHS.pack(len(request), len(reply)))
                file.write(request)
                file.write(reply)
            entry = dict(zip(("phase", "round", "step", "crc"), key, strict=True))
            entry |= {"offset": offset, "request": len(request), "reply": len(reply)}
            with index_path(self._folder, site).open("a", encoding="ascii") as index:
                index.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        self._known[site].add(key)

    def _repair(self, site: str) -> set[tuple[Any, ...]]:
        """Cut off what a stop has left incomplete, and return which exchanges are there."""
        index, messages = index_path(self._folder, site), messages_path(self._folder, site)
        if not index.exists():
            messages.unlink(missing_ok=True)
            return set()
        size = messages.stat().st_size if messages.exists() else 0
        entries = [entry for entry in read_index(index) if _end(entry) <= size]
        index.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="ascii")
        if messages.exists():
            with messages.open("r+b") as file:
                file.truncate(_end(entries[-1]) if entries else 0)
        return {(entry["phase"], entry["round"], entry["step"], entry["crc"]) for entry in entries}


def _end(entry: dict[str, Any]) -> int:
    """Return the offset behind an exchange."""
    return entry["offset"] + LENGTHS.size + entry["request"] + entry["reply"]


def _unwritable(folder: Path, error: Exception) -> RecordingError:
    return RecordingError(
        f"could not write the recording in {folder}: {error}; free disk space or set runtime.record to false",
        public="the server could not write its recording",
    )
