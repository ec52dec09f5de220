"""A model of volumes whose answers are known: a voxel's class is the level that its value is nearest to."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from tiny_job import tiny_config
from torch import Tensor, nn

from mucald.config.common import DataConfig, VolumeConfig, VolumePlan
from mucald.federation.method import TrainedModel
from mucald.tasks import get_task

STEP = 100.0
"""From level to level, in the numbers that the volumes store."""


class Levels(nn.Module):
    """Logits of the nearest level; of one class per volume, of the nearest mean times a hundred."""

    def __init__(self, n_classes: int, whole: bool):
        super().__init__()
        self.register_buffer("levels", torch.arange(n_classes).float() * STEP)
        self._whole = whole

    def forward(self, inputs: Tensor) -> Tensor:
        values = inputs[:, :1]
        if self._whole:
            return -((100 * values.mean(dim=(2, 3, 4)) - self.levels[None]) ** 2) / STEP**2
        return -((values - self.levels.view(1, -1, 1, 1, 1)) ** 2) / STEP**2


@dataclass(frozen=True)
class LevelFamily:
    def network(self, model: TrainedModel) -> nn.Module:
        return Levels(model.task.n_classes, model.task.target == "class").eval()

    def description(self, config: Any) -> str:  # noqa: ARG002
        return "levels"


def model_of(
    task: str, spacing: tuple[float, ...] = (2.0, 2.0, 2.0), size: tuple[int, ...] = (8, 8, 8)
) -> TrainedModel:
    """Values are kept as they are: a plan for CT that neither cuts nor scales."""
    plan = VolumePlan(spacing, size, intensity=(-1e4, 1e4, 0.0, 1.0))
    config = replace(tiny_config(), data=DataConfig(volumes=VolumeConfig(plans={task: plan})))
    family: Any = LevelFamily()
    return TrainedModel("north", get_task(task), config, family, {}, {})
