"""Loads volumes with masks or classes: a site's own, kept in its cache, or phantoms."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mucald.config.common import DataConfig
from mucald.data.measures import Measures
from mucald.data.records.layouts import SPLITS
from mucald.data.site_data import Loaded
from mucald.data.site_file import SiteFile
from mucald.data.volumes.intensity import normalised
from mucald.data.volumes.patches import centred
from mucald.data.volumes.phantoms import PHANTOMS
from mucald.data.volumes.phantoms.device import device_of
from mucald.data.volumes.split import VolumeSplit
from mucald.errors import ConfigError, DataError
from mucald.randomness import generator
from mucald.tasks import Task


class VolumeLoader:
    """See :class:`mucald.data.loading.Loader`."""

    def own(
        self,
        home: Path,  # noqa: ARG002
        site_file: SiteFile,
        task: Task,
        data: DataConfig,  # noqa: ARG002
        measures: Measures,  # noqa: ARG002
    ) -> Loaded:
        """Read a site's own volumes."""
        raise DataError(f"{site_file.root}: volumes of a site's own ({task.name}) are not read yet")

    def check(self, site_file: SiteFile, task: Task) -> int:
        """Read all volumes once."""
        raise DataError(f"{site_file.root}: volumes of a site's own ({task.name}) are not read yet")

    def phantoms(
        self, site: str, task: Task, data: DataConfig, seed: int, measures: Measures, scanner: str
    ) -> Loaded:
        """Draw volumes of a task, as the site's own device shows them; of classes each as often."""
        _check_unmeasured(task, measures)
        if task.name not in PHANTOMS:
            raise ConfigError(
                f"task '{task.name}' has no phantoms (known: {', '.join(PHANTOMS)}); give site '{site}' a "
                "site.json that names volumes of its own"
            )
        if scanner != "standard":
            raise ConfigError(
                f"sites.{site}.scanner: phantoms that are volumes have a device drawn for each site; leave "
                "it out"
            )
        train, validation, test = (_drawn(site, task, data, seed, split) for split in SPLITS)
        return Loaded(train, validation, test)


def _check_unmeasured(task: Task, measures: Measures) -> None:
    if measures.names:
        raise ConfigError(f"task '{task.name}' has volumes, of which nothing is measured")


def _drawn(site: str, task: Task, data: DataConfig, seed: int, split: str) -> VolumeSplit:
    phantom, plan, device = (
        PHANTOMS[task.name],
        data.volumes.plan(task.name),
        device_of(seed, site, task.modality),
    )
    x, y, z = data.volumes.phantom_size
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for index in range(getattr(data.phantoms, split)):
        rng, label = generator(seed, site, "phantom", split, index), index % task.n_classes
        scene = phantom.draw(rng, (x, y, z), label)
        volume = device.take(scene.tissue, scene.table, rng)
        image = normalised(volume, plan.intensity or phantom.intensity)
        if task.target == "class":
            given = data.volumes.plans.get(task.name)
            size = given.patch_size if given else ()
            images.append(torch.from_numpy(centred(image, size or (x, y, z))))
            labels.append(torch.tensor(label))
        else:
            images.append(torch.from_numpy(image))
            labels.append(torch.from_numpy(np.ascontiguousarray(scene.labels)))
    return VolumeSplit(images, labels)
