"""Random changes of samples in training, each drawn by seed, site, round and step."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mucald import randomness
from mucald.config.job import JobConfig
from mucald.data.site_data import Batch, SiteData
from mucald.data.volumes.split import VolumeSplit
from mucald.data.volumes.training import patch_batch
from mucald.randomness import Key
from mucald.tasks import Task

_EVEN = 0.5


@dataclass(frozen=True)
class Orientations:
    """How each of B samples is turned, of the eight ways to lay a square onto itself.

    Unlike a rotation by any angle these move pixels and leave them as they are, so they act on a front end's
    latents and skips as on images and masks.

    Args:
        transposed, upside_down, mirrored: bool (B,), done in this order.
    """

    transposed: Tensor
    upside_down: Tensor
    mirrored: Tensor

    def of(self, tensor: Tensor) -> Tensor:
        """Return a tensor (B, …, s, s), such as images, masks, latents or skips, with each sample turned."""
        for chosen, turned in self._ways():
            tensor = _where(chosen, turned, tensor)
        return tensor

    def undone(self, tensor: Tensor) -> Tensor:
        """Return what :meth:`of` has turned, as it was."""
        for chosen, turned in reversed(self._ways()):
            tensor = _where(chosen, turned, tensor)
        return tensor

    def _ways(self) -> list[tuple[Tensor, Callable[[Tensor], Tensor]]]:
        return [
            (self.transposed, lambda x: x.transpose(-1, -2)),
            (self.upside_down, lambda x: x.flip(-2)),
            (self.mirrored, lambda x: x.flip(-1)),
        ]


def _where(chosen: Tensor, turned: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    per_sample = chosen.view(-1, *[1] * (tensor.ndim - 1)).to(tensor.device)
    return torch.where(per_sample, turned(tensor), tensor)


def orientations(
    config: JobConfig, site: str, task: Task, phase: int | str, step: int, count: int
) -> Orientations:
    """Return how the samples of a step are turned; a server that was given the samples draws the same.

    Args:
        config: the job.
        site: whose samples they are.
        task: the site's; says which ways of turning leave the meaning as it is.
        phase: number of the round, or the name of what comes before the first.
        step: number of the step within it.
        count: number of samples.
    """
    draws = randomness.uniform((3, count), *_key(config, site, phase, step), "orientation")
    drawn = draws < _EVEN * config.training.augmentation
    how = task.augmentation
    return Orientations(drawn[0] & how.any_way_up, drawn[1] & how.any_way_up, drawn[2] & how.mirrored)


def training_batch(
    config: JobConfig, site: str, data: SiteData, phase: int | str, step: int, rows: Iterable[int]
) -> Batch:
    """Return training samples ``rows``, changed at random as far as the job asks and the task allows.

    Of volumes these are patches. Other arguments are those of :func:`orientations`.
    """
    if isinstance(data.train, VolumeSplit):
        return patch_batch(config, site, data.task, data.train, phase, step, rows)
    batch = data.train.batch(rows)
    if config.training.augmentation == 0:
        return batch
    # Imported here: it imports MONAI, which takes a process as long as torch does.
    from mucald.data.images.augmentation import changed

    turned = orientations(config, site, data.task, phase, step, len(batch.inputs))
    inputs, targets = turned.of(batch.inputs), turned.of(batch.targets)
    draws = randomness.generator(*_key(config, site, phase, step), "augmentation")
    inputs, targets = changed(inputs, targets, data.task.augmentation, config.training.augmentation, draws)
    return replace(batch, inputs=inputs, targets=targets)


def _key(config: JobConfig, site: str, phase: int | str, step: int) -> Key:
    return (config.seed, site, phase, step)
