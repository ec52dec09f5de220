"""What data lists and ``dataset.json`` say of channels: how many there are, and what they were taken with."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mucald.data.files import is_nifti
from mucald.data.images.pictures import RGB_CHANNELS
from mucald.errors import DataError
from mucald.tasks import Task

_TOLD = ("channel_names", "modality")
"""Keys that name channels: of nnU-Net v2, and of v1 and the Medical Segmentation Decathlon."""
_CALLED = {
    "CT": re.compile(r"(?<![a-z])CT(?![a-z])", re.IGNORECASE),
    "MR": re.compile(r"(?<![a-z])(MRI?|T[12]w?|FLAIR)(?![a-z])", re.IGNORECASE),
}
"""Names that leave no doubt of a modality; others, such as ``0`` or ``DWI``, are not judged."""


def check_channels(
    path: Path, description: Mapping[str, Any], cases: Mapping[str, Mapping[str, Path]]
) -> bool:
    """Check that every case has all channels, which nnU-Net numbers from 0000.

    nnU-Net keeps a colour picture as one file, for which ``channel_names`` names red, green and blue.

    Args:
        path: the description.
        description: its ``channel_names`` (v2) or ``modality`` (v1) tell the channels.
        cases: files by channel, by case.

    Returns:
        whether each case is one file that must hold three channels.

    Raises:
        DataError: a case has others.
    """
    told = next((description[key] for key in _TOLD if description.get(key)), None)
    numbers = {channel for found in cases.values() for channel in found}
    named = len(told) if isinstance(told, dict | list) else None
    if named == RGB_CHANNELS and numbers == {"0000"}:
        files = [file for found in cases.values() for file in found.values()]
        if not any(is_nifti(file) for file in files):
            return True
    most = max(map(int, numbers), default=-1) + 1 if named is None else named
    wanted = [f"{number:04}" for number in range(most)]
    for case, found in cases.items():
        if sorted(found) != wanted:
            by = "the other cases have" if named is None else "its channel_names are for"
            raise DataError(
                f"{path}: case '{case}' has the channels {', '.join(sorted(found))}, but {by} "
                f"{', '.join(wanted)}; add or remove files",
                public="images of a set differ in their channels",
            )
    return False


def check_modality(path: Path, description: Mapping[str, Any], task: Task) -> None:
    """Check that a set of volumes does not say that another modality than the task's took it.

    CT and MR are normalised in different ways, and sites of one modality may share an adaptor.

    Args:
        path: the description.
        description: its ``channel_names`` or ``modality`` name the channels; nothing is checked without.
        task: the site's.

    Raises:
        DataError: a channel has the name of another modality.
    """
    for key, channel, name in _names(description):
        called = {modality for modality, pattern in _CALLED.items() if pattern.search(name)}
        if called and not any(task.modality.startswith(modality) for modality in called):
            raise DataError(
                f"{path}: '{key}' calls channel {channel} {name!r}, but task {task.name} takes "
                f"{task.modality}; give the task of these volumes in site.json, or correct '{key}'",
                public="volumes are of another modality than their task",
            )


def _names(description: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key in _TOLD:
        told = description.get(key) or {}
        names = (
            told.items() if isinstance(told, dict) else enumerate(told if isinstance(told, list) else [told])
        )
        yield from ((key, str(channel), str(name)) for channel, name in names)
