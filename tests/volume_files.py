"""Writes sets of small volumes in nnU-Net's raw layout."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from image_files import save_nifti
from numpy.typing import NDArray

from mucald.randomness import generator
from mucald.tasks import get_task

SHAPE = (12, 10, 8)


def scene(index: int, n_classes: int, shape: Sequence[int] = SHAPE) -> tuple[NDArray[Any], NDArray[Any]]:
    """A volume (float32) whose blocks of classes are the brighter, the higher their number, and its mask."""
    labels = np.zeros(tuple(shape), np.uint8)
    for label in range(1, n_classes):
        # Side by side, so that every volume holds every class.
        x, y, z = 4 * (label - 1), 1 + index % 4, 1 + (index + label) % 4
        labels[x : x + 3, y : y + 4, z : z + 3] = label
    noise = generator("volume", index).normal(size=shape)
    return (100.0 * labels + 5 * noise).astype(np.float32), labels


def affine(spacing: Sequence[float] = (2.0, 2.0, 2.0), axes: Sequence[int] = (1, 1, 1)) -> NDArray[Any]:
    """Return an affine of that spacing; an axis of -1 points left, to the back or downwards."""
    return np.diag([*(size * way for size, way in zip(spacing, axes, strict=True)), 1.0])


def write_set(
    root: Path,
    task: str,
    cases: int = 5,
    spacing: Sequence[float] = (2.0, 2.0, 2.0),
    shape: Sequence[int] = SHAPE,
    **description: Any,
) -> Path:
    """Write a set of a task, with a mask or a class per case, and return its folder."""
    of = get_task(task)
    for index in range(cases):
        image, labels = scene(index, of.n_classes if of.target == "mask" else 3, shape)
        for channel in range(of.channels):
            path = root / f"imagesTr/case_{index}_{channel:04}.nii.gz"
            save_nifti(path, image + channel, affine(spacing), sform_code=1)
        if of.target == "mask":
            save_nifti(root / f"labelsTr/case_{index}.nii.gz", labels, affine(spacing), sform_code=1)
    content: dict[str, Any] = {
        "channel_names": {str(channel): of.modality for channel in range(of.channels)},
        "labels": {name: label for label, name in enumerate(of.classes)},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    if of.target == "class":
        content["classes"] = {f"case_{index}": of.classes[index % of.n_classes] for index in range(cases)}
    (root / "dataset.json").write_text(json.dumps(content | description))
    return root
