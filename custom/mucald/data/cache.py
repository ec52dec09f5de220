"""Keep a site's prepared arrays on its disk, since its process may start anew for every task."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mucald import __version__
from mucald.data.files import reading
from mucald.data.records.layouts import Record
from mucald.data.site_file import SiteFile

FOLDER = "cache"
# Raise when the meaning of the arrays changes.
FORMAT = 6


def cached(
    home: Path,
    site_file: SiteFile,
    records: list[Record],
    key: tuple[int | str, ...],
    prepare: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Return the arrays kept in ``<home>/cache``, or prepare and keep them.

    The file's name holds a hash of the site file, of every image's and mask's name, size, times and inode,
    and of ``key``: the image size and what is measured; the file holds it too. Arrays of an earlier state of
    the same task and size are deleted: they may hold images that the site has withdrawn.
    """
    stem = f"{site_file.task}_{key[0]}"
    path, arrays = _kept(home, stem, _digest(site_file, records, key), prepare)
    _remove_others(stem, [path])
    return arrays


def cached_each(
    home: Path,
    site_file: SiteFile,
    records: list[Record],
    key: tuple[int | str, ...],
    prepare: Callable[[Record], dict[str, Tensor]],
) -> list[dict[str, Tensor]]:
    """Return the arrays of each record, as :func:`cached` does, from a file each.

    So no more than one record is in memory while it is prepared, and none once all are: safetensors maps
    files into memory, and what is used of them is read then.
    """
    stem = f"{site_file.task}_each"
    paths, found = [], []
    for record in records:
        digest = _digest(site_file, [record], key)
        path, arrays = _kept(home, stem, digest, partial(prepare, record))
        paths.append(path)
        # Where a run with another plan has just removed the file, there is what was prepared.
        found.append(_read(path, digest) or arrays)
    _remove_others(stem, paths)
    return found


def _kept(
    home: Path, stem: str, digest: str, prepare: Callable[[], dict[str, Tensor]]
) -> tuple[Path, dict[str, Tensor]]:
    path = home / FOLDER / f"{stem}_{digest}.safetensors"
    if (arrays := _read(path, digest)) is not None:
        return path, arrays
    arrays = prepare()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(f".{os.getpid()}")
    kept = {name: torch.as_tensor(array).contiguous() for name, array in arrays.items()}
    save_file(kept | {digest: torch.empty(0)}, temporary)
    temporary.chmod(0o600)
    temporary.replace(path)
    return path, arrays


def _read(path: Path, digest: str) -> dict[str, Tensor] | None:
    """Return the arrays of a file; None if there is none, or it is damaged or holds something else."""
    if not path.exists():
        return None
    try:
        arrays = load_file(path)
    except SafetensorError:
        return None
    return None if arrays.pop(digest, None) is None else arrays


def _remove_others(stem: str, kept: list[Path]) -> None:
    for other in kept[0].parent.glob(f"{stem}_*.safetensors"):
        if other not in kept:
            other.unlink(missing_ok=True)


def _digest(site_file: SiteFile, records: list[Record], key: tuple[int | str, ...]) -> str:
    state = hashlib.sha256(repr((FORMAT, __version__, site_file, key)).encode())
    for record in records:
        state.update(repr((record.case, record.split)).encode())
        for path in (*record.images, record.mask):
            with reading(path):
                status = path.stat()
            # Whoever puts a file in another's place may keep its size and time of change.
            seen = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
            state.update(repr((str(path), *seen)).encode())
    return state.hexdigest()[:32]
