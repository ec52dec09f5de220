"""Mini-batches of patches to train on."""

from collections.abc import Iterable

import torch

from mucald import randomness
from mucald.config.job import JobConfig
from mucald.data.site_data import Batch
from mucald.data.volumes.patches import FORCED, cut_out, patch_centre
from mucald.data.volumes.split import VolumeSplit
from mucald.tasks import Task


def patch_batch(
    config: JobConfig,
    site: str,
    task: Task,
    split: VolumeSplit,
    phase: int | str,
    step: int,
    rows: Iterable[int],
) -> Batch:
    """Return a patch of each volume ``rows``, changed at random as far as the job asks.

    Every third patch of a run of steps has foreground at its centre. A volume that has one class is taken
    whole, as its split has it.

    Args:
        config: the job.
        site: whose volumes they are.
        task: the site's.
        split: its volumes to train on.
        phase: number of the round, or the name of what comes before the first.
        step: number of the step within it.
        rows: of the volumes.
    """
    key = (config.seed, site, phase, step)
    draws = randomness.generator(*key, "patch")
    odds, patch_size = config.training.augmentation, config.data.volumes.plan(task.name).patch_size
    masked = task.target == "mask"
    change = None
    if odds:
        # Imported here: it imports MONAI, which takes a process as long as torch does.
        from mucald.data.volumes import augmentation

        change = augmentation.Intensities(odds, randomness.generator(*key, "augmentation"))
    images, targets = [], []
    for number, row in enumerate(map(int, rows)):
        image, labels = split.images[row], split.labels[row]
        forced = (step * config.training.batch_size + number) % FORCED == FORCED - 1
        size = patch_size if masked else image.shape[1:]
        centre = patch_centre(split, row, size, forced and masked, draws)
        warp = augmentation.drawn_warp(size, odds, draws) if change else None
        if warp is None and masked:
            image = cut_out(image, centre, size)
            labels = cut_out(labels, centre, size)
        elif warp is not None:
            image = augmentation.warped(image, centre, size, warp, "bilinear")
            labels = augmentation.warped(labels[None], centre, size, warp, "nearest")[0] if masked else labels
        if change:
            image, labels = change(image, labels)
        images.append(image)
        targets.append(labels)
    return Batch(torch.stack(images), torch.stack(targets).to(torch.int64), torch.empty(len(images), 0))
