"""Segment or classify volumes with a trained model, and write masks and a summary."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mucald.config.common import DataConfig, VolumePlan
from mucald.console import watched
from mucald.data.volumes.phantoms import PHANTOMS
from mucald.data.volumes.preparing import fitted
from mucald.data.volumes.reading import ReadVolume, read_volume
from mucald.data.volumes.resampling import linear
from mucald.errors import DataError, explained
from mucald.inference.images import Input, write_mask
from mucald.inference.predict import SUMMARY, as_text, check_apart
from mucald.tasks import Task
from mucald.training.windows import predicted

_MM3_PER_ML = 1000.0
_OF_MASKS = ("file", "mask", "class", "voxels", "ml")
_OF_CLASSES = ("file", "predicted", "class", "probability")


def plan_for(data: DataConfig, task: Task) -> VolumePlan:
    """Return how the volumes of a task were made to fit in a job, phantoms if it has no plan."""
    plan, phantom = data.volumes.plan(task.name), PHANTOMS.get(task.name)
    size = plan.patch_size
    if task.target == "class" and task.name not in data.volumes.plans:
        size = data.volumes.phantom_size
    return replace(plan, intensity=plan.intensity or (phantom.intensity if phantom else ()), patch_size=size)


class Mirrored(nn.Module):
    """Mean of a network's logits over all ways to mirror its inputs, each mirrored back.

    Args:
        network: gives logits (B, C, …) or (B, C) for inputs (B, channels, …).
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self._network = network

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits of the network's shape."""
        axes = range(2, inputs.ndim)
        ways = [way for count in range(len(axes) + 1) for way in combinations(axes, count)]
        total = self._network(inputs)
        for way in ways[1:]:
            logits = self._network(inputs.flip(way))
            total = total + (logits.flip(way) if logits.ndim == inputs.ndim else logits)
        return total / len(ways)


@dataclass(frozen=True)
class VolumePredictor:
    """What a network says of volumes as their files have them.

    Args:
        network: in evaluation mode, on the device.
        task: what it has learnt.
        plan: how volumes are made to fit, see :func:`plan_for`.
        device: where it computes.
    """

    network: nn.Module
    task: Task
    plan: VolumePlan
    device: torch.device

    @torch.no_grad()
    def logits(self, image: NDArray[np.float32]) -> Tensor:
        """Return logits (C, X, Y, Z), on the CPU, of a volume (channels, X, Y, Z) that was made to fit.

        By the sliding window of validation, see :func:`.predicted`. Of a task of classes the logits are (C,).
        """
        inputs = torch.from_numpy(image)[None].to(self.device)
        patch = self.plan.patch_size if self.task.target == "mask" else None
        return predicted(self.network, inputs, patch)[0].cpu()

    def mask(self, volume: ReadVolume) -> NDArray[np.uint8]:
        """Return class ids on the grid and along the axes of the volume's file.

        Logits are brought to the file's grid linearly, and then the largest decides.
        """
        logits = self.logits(fitted(volume, self.task, self.plan)).numpy()
        shape = volume.values.shape[1:]
        best = np.full(shape, -np.inf, dtype=np.float32)
        labels = np.zeros(shape, dtype=np.uint8)
        # Class by class, since the file's grid may be far finer.
        for label, logit in enumerate(logits):
            there = linear(logit, shape)
            labels[there > best] = label
            best = np.maximum(best, there)
        return volume.turn.undone(labels)

    def probabilities(self, volume: ReadVolume) -> NDArray[np.float32]:
        """Return the softmax over the classes (C,)."""
        logits = self.logits(fitted(volume, self.task, self.plan))
        return np.asarray(logits.softmax(dim=0).numpy())


def predict_volumes(inputs: Sequence[Input], predictor: VolumePredictor, out: Path) -> list[str]:
    """Write the mask of every volume, where the task has masks, and :data:`SUMMARY` into ``out``.

    The summary has a row per volume and class: voxels and millilitres of a foreground class, or probability
    of a class and the one predicted. A volume that cannot be read has a row that says why.

    Returns:
        what could not be read, in words.

    Raises:
        DataError: a volume lies in ``out``.
    """
    check_apart(inputs, out)
    out.mkdir(parents=True, exist_ok=True)
    columns, rows_of = (_OF_MASKS, _masked) if predictor.task.target == "mask" else (_OF_CLASSES, _classified)
    faults = []
    with (out / SUMMARY).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*columns, "fault"])
        for image in watched(inputs, "volumes"):
            try:
                if image.fault:
                    raise DataError(image.fault)
                rows = list(rows_of(image, read_volume(image.files, predictor.task), predictor, out))
            except Exception as error:  # noqa: BLE001 - whatever a damaged file throws ends no batch
                fault = str(explained(error, reading=image.files[0]))
                faults.append(fault)
                rows = [[image.files[0].name, *[""] * (len(columns) - 1), fault]]
            writer.writerows([as_text(cell) for cell in row] for row in rows)
    return faults


def _masked(image: Input, volume: ReadVolume, predictor: VolumePredictor, out: Path) -> Iterator[list[str]]:
    labels = predictor.mask(volume)
    write_mask(image, np.moveaxis(labels, -1, 0), out, keeps_integers=True)
    counts = np.bincount(labels.reshape(-1), minlength=predictor.task.n_classes)
    ml = float(np.prod(volume.spacing)) / _MM3_PER_ML
    for name, count in list(zip(predictor.task.classes, counts, strict=True))[1:]:
        yield [image.files[0].name, image.mask_name, name, str(count), f"{count * ml:.6g}", ""]


def _classified(
    image: Input,
    volume: ReadVolume,
    predictor: VolumePredictor,
    out: Path,  # noqa: ARG001 - one signature
) -> Iterator[list[str]]:
    found = predictor.probabilities(volume)
    predicted = predictor.task.classes[int(found.argmax())]
    for name, probability in zip(predictor.task.classes, found, strict=True):
        yield [image.files[0].name, predicted, name, f"{probability:.6g}", ""]
