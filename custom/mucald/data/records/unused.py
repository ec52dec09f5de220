"""What lies in the folders of a set and is not read: counted by endings, without anybody's names."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mucald.data.files import count, ending_of, reading, same_form, unread, unused_in
from mucald.data.images.stored import IMAGE_ENDINGS

_OTHER_IMAGES = (".dcm", ".dicom", ".gif", ".mha", ".mhd", ".nrrd")
"""Endings of images that no layout reads."""


def names_in(folder: Path) -> list[str]:
    """Return the names of a folder's entries; those of folders end with ``/``."""
    with reading(folder):
        return [entry.name + "/" * entry.is_dir() for entry in os.scandir(folder)]


def unused_folders(root: Path, pattern: str) -> list[str]:
    """Say how many files lie in folders that a layout has for images without masks."""
    with reading(root):
        folders = sorted(p for p in root.iterdir() if re.fullmatch(pattern, p.name) and p.is_dir())
        return [words for folder in folders for words in unused_in(folder, names_in(folder))]


def unlisted(path: Path, files: Sequence[Path]) -> list[str]:
    """Say how many files lie beside those of a data list, and how many folders with images beside theirs.

    Args:
        path: the data list.
        files: all that it names.
    """
    named: dict[Path, set[str]] = {}
    for file in files:
        named.setdefault(file.parent.resolve(), set()).add(same_form(file.name))
    others = [
        name
        for folder, known in named.items()
        for name in names_in(folder)
        if same_form(name) not in known and ending_of(name) != ".json"
    ]
    own = path.parent.resolve()
    top = own if all(folder.is_relative_to(own) for folder in named) else Path(os.path.commonpath(named))
    where = f"beside those of {path}"
    return unread(others, where) + folders_beside(top, named, where, within=True)


def folders_beside(top: Path, read: Iterable[Path], where: str, within: bool) -> list[str]:
    """Say how many folders with images below ``top`` lie beside those that are read, or also within these."""
    read, top = {folder.resolve() for folder in read}, top.resolve()
    entered = {up for folder in read for up in (folder, *folder.parents)}
    looked_in = [up for up in entered if up.is_relative_to(top) and up.name and (within or up not in read)]
    names = [(folder, name) for folder in looked_in for name in names_in(folder)]
    others = {(up / name).resolve() for up, name in names if name.endswith("/") and name[0] != "."}
    number = sum(_holds_images(folder) for folder in others - entered)
    return [f"{count(number, f'folder {where} is', f'folders {where} are')} not read"] * bool(number)


def _holds_images(folder: Path) -> bool:
    """Look no deeper than into folders of a folder: anything may lie beside a set, and shares are slow."""
    inner = [folder / name for name in names_in(folder) if name.endswith("/") and name[0] != "."]
    names = (name for place in (folder, *inner) for name in names_in(place) if not name.startswith("."))
    return any(ending_of(name) in IMAGE_ENDINGS + _OTHER_IMAGES for name in names)
