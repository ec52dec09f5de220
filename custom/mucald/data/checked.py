"""What the images of a site were read as: one fingerprint, which ``check_data`` keeps and a run compares."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mucald.data.records.descriptions import read_description
from mucald.data.records.layouts import Record
from mucald.errors import DataError
from mucald.state.files import write_atomically

CHECK_FILE = "checked.json"


class SeenImages:
    """The content of the images that were read so far."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._pixels: list[str] = []
        self._entries: list[str] = []

    def add(self, record: Record, pixels: NDArray[Any], labels: NDArray[Any]) -> None:
        """Note an image; ``record.split`` is where it trains or tests, in this run.

        Args:
            record: its files.
            pixels: uint8, slices x H x W x 3; of a volume float32, C x X x Y x Z.
            labels: class ids, uint8, of every pixel or voxel; or a class without axes.
        """
        self.add_hashes(record, content_hash(pixels), content_hash(labels))

    def add_hashes(self, record: Record, pixels: str, labels: str) -> None:
        """Note an image whose :func:`content_hash` and its mask's or class's are known."""
        self._records.append(record)
        self._pixels.append(pixels)
        self._entries.append(repr((record.images[0].name, record.case, record.split, pixels, labels)))

    @property
    def copies(self) -> list[list[Record]]:
        """Groups of images with the same pixels."""
        groups: defaultdict[str, list[Record]] = defaultdict(list)
        for record, digest in zip(self._records, self._pixels, strict=True):
            groups[digest].append(record)
        return [group for group in groups.values() if len(group) > 1]

    def faults(self, split_fault: str | None, unreadable: Sequence[str]) -> list[str]:
        """Return what must be mended in a set: what keeps it from being divided or read, and copies."""
        return [*([split_fault] if split_fault else []), *unreadable, *self.leaks]

    @property
    def leaks(self) -> list[str]:
        """What is wrong with each group of copies that lies in several splits, in words."""
        return [
            "the same image in several splits: "
            + ", ".join(f"{record.images[0]} ({record.split})" for record in group)
            + "; remove one, or give both one patient"
            for group in self.copies
            if len({record.split for record in group}) > 1
        ]

    def check_apart(self) -> None:
        """Check that no image lies in two splits, whatever it is called there.

        Raises:
            DataError: one does.
        """
        if self.leaks:
            raise DataError(self.leaks[0], public="images of two splits are the same")

    def fingerprint(self, task: str) -> str:
        """Return a hash of task, names, patients, splits, pixels and classes, whatever order or folder."""
        return hashlib.sha256("\n".join([task, *sorted(self._entries)]).encode()).hexdigest()


def content_hash(pixels: NDArray[Any]) -> str:
    """Return a hash of an image's pixels, the same for a copy in another format without loss."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def write_check(home: Path, fingerprint: str, splits: Sequence[str]) -> Path:
    """Keep what a check found in the site's own folder, and return the file.

    Args:
        home: the site's folder.
        fingerprint: of :class:`SeenImages`.
        splits: the split of each image.
    """
    content = {
        "fingerprint": fingerprint,
        "checked": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": dict(Counter(splits)),
    }
    write_atomically(home / CHECK_FILE, (json.dumps(content, indent=1) + "\n").encode())
    return home / CHECK_FILE


def compared(home: Path, fingerprint: str) -> tuple[bool, str]:
    """Return whether the site's data are those of its last check, and words for the site's own log."""
    path = home / CHECK_FILE
    command = "mucald check <the site's site.json>"
    if not path.exists():
        return False, f"{home}: the data were not checked yet; run {command}"
    try:
        content: dict[str, Any] = read_description(path)
    except DataError as error:
        return False, f"{error}; run {command}"
    when = content.get("checked")
    if content.get("fingerprint") == fingerprint:
        return True, f"{home}: the data are those of the check of {when}"
    return False, f"{home}: the data have changed since they were checked ({when}); run {command} again"
