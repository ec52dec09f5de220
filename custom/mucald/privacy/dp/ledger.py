"""What a site's images have given away so far, in all jobs: ``<home>/privacy_ledger.jsonl``.

A line is one entry, and lines are only added. Two kinds exist: a job, entered with its whole budget before
its first step, and the releases of one round, entered before their noise is drawn. An entry names the one
before it by a hash, so a line that was changed, or lost between others, is found. Which images a job used
stands in ``<home>/privacy_ledger/<set>``, 16 bytes of SHA-256 for each; two sets may share some of them.
"""

import fcntl
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mucald.data.embeddings.sets import HASH_BYTES
from mucald.errors import DataError, PolicyError
from mucald.privacy.gaussian import epsilon
from mucald.state.files import write_atomically

LEDGER_FILE = "privacy_ledger.jsonl"
SETS_FOLDER = "privacy_ledger"

_FIRST = "0" * 16
_ALWAYS: dict[str, type] = {"kind": str, "time": int, "after": str}
_FIELDS: dict[str, dict[str, type]] = {
    "job": {"run": str, "job": str, "set": str, "images": int, "mu": float, "releases": int},
    "releases": {"run": str, "set": str, "key": str, "count": int},
}


@dataclass(frozen=True)
class Plan:
    """What a job is going to spend on a site's images.

    Args:
        run: name of the run.
        job: name of the job.
        images: content hash of every image that is trained on, :data:`HASH_BYTES` each.
        mu: μ of all releases together.
        releases: their number.
    """

    run: str
    job: str
    images: Sequence[bytes]
    mu: float
    releases: int

    @property
    def set(self) -> str:
        """Names the set of images, whatever their order."""
        return hashlib.sha256(b"".join(sorted(self.images))).hexdigest()[: 2 * HASH_BYTES]


class Ledger:
    """The ledger of one site; safe against several jobs at once.

    Args:
        home: the site's own folder.
        site: its name, for messages.
    """

    def __init__(self, home: Path, site: str):
        self.path, self._sets, self._site = home / LEDGER_FILE, home / SETS_FOLDER, site

    def reserve(self, plan: Plan, max_epsilon: float | None, delta: float) -> float:
        """Enter a job before it begins; a run that is there already is not entered again.

        Args:
            plan: of the job.
            max_epsilon: what all jobs with one image may spend together; None for no bound.
            delta: δ at which that counts.

        Returns:
            ε at ``delta`` of all jobs, this one included, for the image that was used most.

        Raises:
            PolicyError: the images would give away more; the message has the numbers.
            DataError: the ledger is damaged.
        """
        with self._held():
            entries = self._entries()
            of_run = [e for e in entries if e["kind"] == "job" and e["run"] == plan.run]
            if of_run and any(e["set"] != plan.set or e["releases"] != plan.releases for e in of_run):
                self._refuse(f"run {plan.run} began with other images or another schedule; begin a new run")
            before = self._most([e for e in entries if e["run"] != plan.run], plan.images)
            total = epsilon(math.sqrt(before + plan.mu**2), delta)
            if of_run:
                return total
            if max_epsilon is not None and total > max_epsilon:
                spent = epsilon(math.sqrt(before), delta)
                self._refuse(
                    f"earlier jobs have spent ε = {spent:.4g} (δ = {delta:g}) of the same images and this "
                    f"one would make it {total:.4g}, but the policy's max_total_epsilon is {max_epsilon:g}"
                )
            self._sets.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._sets / plan.set, b"".join(sorted(plan.images)))
            facts = {"run": plan.run, "job": plan.job, "set": plan.set, "images": len(plan.images)}
            self._append("job", facts | {"mu": plan.mu, "releases": plan.releases})
            return total

    def spend(self, plan: Plan, key: str, count: int) -> None:
        """Enter releases before they are made.

        Args:
            plan: of the job, which has been entered.
            key: names the releases: who makes them anew with the same key gives out the same numbers, which
                tells nothing more.
            count: how many.

        Raises:
            PolicyError: the job has not so many left.
            DataError: the ledger is damaged.
        """
        with self._held():
            entries = [e for e in self._entries() if e["run"] == plan.run]
            made = [e for e in entries if e["kind"] == "releases"]
            if any(entry["key"] == key for entry in made):
                return
            done = sum(entry["count"] for entry in made)
            if not any(e["kind"] == "job" for e in entries) or done + count > plan.releases:
                self._refuse(
                    f"the budget of run {plan.run} is spent: {done} of {plan.releases} noised steps are "
                    f"done, and {count} more are asked for"
                )
            self._append("releases", {"run": plan.run, "set": plan.set, "key": key, "count": count})

    def _refuse(self, what: str) -> None:
        message = f"site '{self._site}' refuses: {what}"
        raise PolicyError(message, public=message)

    def _most(self, entries: list[dict[str, Any]], images: Sequence[bytes]) -> float:
        """Return Σ μ² over the jobs that used an image, for the image with the most."""
        squares: dict[bytes, float] = {}
        for entry in entries:
            if entry["kind"] == "job":
                for image in self._images(entry):
                    squares[image] = squares.get(image, 0.0) + entry["mu"] ** 2
        return max((squares.get(image, 0.0) for image in images), default=0.0)

    def _images(self, entry: dict[str, Any]) -> list[bytes]:
        path = self._sets / entry["set"]
        data = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(data).hexdigest()[: 2 * HASH_BYTES] != entry["set"]:
            raise self._damaged(
                f"{path} is missing or damaged, which lists the images of job '{entry['job']}'"
            )
        return [data[start : start + HASH_BYTES] for start in range(0, len(data), HASH_BYTES)]

    @contextmanager
    def _held(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f".{LEDGER_FILE}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _lines(self) -> list[bytes]:
        data = self.path.read_bytes() if self.path.exists() else b""
        if data and not data.endswith(b"\n"):
            raise self._damaged(f"{self.path}: its last line is not whole")
        return data.splitlines()

    def _entries(self) -> list[dict[str, Any]]:
        entries, before = [], _FIRST
        for number, line in enumerate(self._lines(), 1):
            entry = _parsed(line)
            if entry is None or entry["after"] != before:
                raise self._damaged(f"{self.path}: line {number} is not as it was written")
            entries.append(entry)
            before = _hash(line)
        return entries

    def _damaged(self, what: str) -> DataError:
        return DataError(
            f"{what}; no job can train under differential privacy before it is restored from a backup. It "
            "tells what these images have given away: do not delete it",
            public=f"the privacy ledger of site '{self._site}' is damaged",
        )

    def _append(self, kind: str, facts: dict[str, Any]) -> None:
        lines = self._lines()
        entry = {
            "kind": kind,
            **facts,
            "time": round(time.time()),
            "after": _hash(lines[-1]) if lines else _FIRST,
        }
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "ab") as stream:
            stream.write(json.dumps(entry).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:16]


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return an entry; None where a line is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fields = _FIELDS.get(str(entry.get("kind"))) if isinstance(entry, dict) else None
    if fields is None or entry.keys() != _ALWAYS.keys() | fields.keys():
        return None
    if any(type(entry[name]) is not kind for name, kind in (_ALWAYS | fields).items()):
        return None
    # Numbers count what was spent: one that is negative or no number would let more be spent.
    numbers = [entry[name] for name, kind in fields.items() if kind is not str]
    return entry if all(0 < number < math.inf for number in numbers) else None
