"""A case of a site as training takes it: read, resampled to the plan's spacing, normalised."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mucald.config.common import VolumePlan
from mucald.data.checked import content_hash
from mucald.data.records.layouts import Record
from mucald.data.volumes.intensity import CT, normalised
from mucald.data.volumes.patches import centred
from mucald.data.volumes.reading import ReadVolume, VolumeReader
from mucald.data.volumes.resampling import resampled, resampled_labels, resampled_shape
from mucald.errors import ConfigError
from mucald.tasks import Task

IMAGE, LABELS, HASHES = "image", "labels", "hashes"


def check_plan(task: Task, plan: VolumePlan) -> None:
    """Check that a job says all that volumes of a site's own need.

    Raises:
        ConfigError: it does not.
    """
    lacking = [] if plan.spacing else ["spacing"]
    lacking += ["intensity"] if task.modality == CT and not plan.intensity else []
    if lacking:
        raise ConfigError(
            f"the job does not say data.volumes.plans.{task.name}.{lacking[0]}, which sites with volumes of "
            "their own need; agree on what `mucald prepare <the site's site.json>` prints at each site"
        )


def fitted(volume: ReadVolume, task: Task, plan: VolumePlan) -> np.ndarray:
    """Return a volume (float32, C x X x Y x Z) as networks take it; of a task of classes its middle.

    Without a spacing in the plan it keeps its own.
    """
    shape = resampled_shape(volume.values.shape[1:], volume.spacing, plan.spacing or volume.spacing)
    image = normalised(resampled(volume.values, volume.spacing, shape), plan.intensity)
    return centred(image, plan.patch_size) if task.target == "class" else image


@dataclass(frozen=True)
class Preparer:
    """Prepares the cases of one site.

    Args:
        task: the site's.
        plan: the job's.
        reader: reads them.
    """

    task: Task
    plan: VolumePlan
    reader: VolumeReader

    def __call__(self, record: Record) -> dict[str, Tensor]:
        """Return image, labels and hashes of what was read.

        Raises:
            DataError: see :meth:`mucald.data.volumes.reading.VolumeReader.read`.
        """
        sample = self.reader.read(record)
        image = fitted(sample.volume, self.task, self.plan)
        labels = target = sample.target_of(record)
        if sample.labels is not None:
            labels = resampled_labels(sample.labels, self.task.n_classes, image.shape[1:])
        hashes = content_hash(sample.volume.values) + content_hash(target)
        return {
            IMAGE: torch.from_numpy(image),
            LABELS: torch.from_numpy(labels),
            HASHES: torch.frombuffer(bytearray.fromhex(hashes), dtype=torch.uint8),
        }
