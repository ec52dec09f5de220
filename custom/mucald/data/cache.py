"""Keep a site's prepared arrays on its disk, since its process may start anew for every task."""

import hashlib
import os
from collections.abc import Callable
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
FORMAT = 5


def cached(
    home: Path,
    site_file: SiteFile,
    records: list[Record],
    key: tuple[int | str, ...],
    prepare: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Return the arrays kept in ``<home>/cache``, or prepare and keep them.

    The file's name holds a hash of the site file, of every image's and mask's name, size and time, and of
    ``key``: the image size and what is measured. Arrays of an earlier state of the same task and size are
    deleted: they may hold images that the site has withdrawn.
    """
    stem = f"{site_file.task}_{key[0]}"
    path = home / FOLDER / f"{stem}_{_digest(site_file, records, key)}.safetensors"
    if path.exists():
        try:
            return load_file(path)
        except SafetensorError:
            pass  # a damaged file is prepared anew
    arrays = prepare()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(f".{os.getpid()}")
    save_file({name: torch.as_tensor(array).contiguous() for name, array in arrays.items()}, temporary)
    temporary.chmod(0o600)
    temporary.replace(path)
    for other in path.parent.glob(f"{stem}_*.safetensors"):
        if other != path:
            other.unlink(missing_ok=True)
    return arrays


def _digest(site_file: SiteFile, records: list[Record], key: tuple[int | str, ...]) -> str:
    state = hashlib.sha256(repr((FORMAT, __version__, site_file, key)).encode())
    for record in records:
        state.update(repr((record.case, record.split)).encode())
        for path in (*record.images, record.mask):
            with reading(path):
                status = path.stat()
            state.update(repr((str(path), status.st_size, status.st_mtime_ns)).encode())
    return state.hexdigest()[:32]
