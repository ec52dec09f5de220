"""Loads volumes with masks or classes: a site's own, kept in its cache, or phantoms."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mucald.config.common import DataConfig
from mucald.data.cache import cached_each
from mucald.data.checked import SeenImages, compared
from mucald.data.measures import Measures
from mucald.data.records.layouts import SPLITS, Record, find_records, find_set
from mucald.data.records.splits import split_records
from mucald.data.site_data import Loaded
from mucald.data.site_file import SiteFile
from mucald.data.volumes.intensity import normalised
from mucald.data.volumes.patches import centred
from mucald.data.volumes.phantoms import PHANTOMS
from mucald.data.volumes.phantoms.device import device_of
from mucald.data.volumes.preparing import HASHES, IMAGE, LABELS, Preparer, check_plan
from mucald.data.volumes.reading import VolumeReader, VolumeSample, values_of
from mucald.data.volumes.split import VolumeSplit
from mucald.errors import ConfigError
from mucald.randomness import generator
from mucald.tasks import Task

log = logging.getLogger(__name__)


class VolumeLoader:
    """See :class:`mucald.data.loading.Loader`."""

    def own(
        self, home: Path, site_file: SiteFile, task: Task, data: DataConfig, measures: Measures
    ) -> Loaded:
        """Read a site's own volumes.

        Raises:
            ConfigError: the job has no plan for them.
        """
        _check_unmeasured(task, measures)
        plan, found = data.volumes.plan(task.name), find_set(site_file)
        check_plan(task, plan)
        splits = split_records(found.records, site_file)
        records = [record for chosen in splits.values() for record in chosen]
        values = values_of(site_file, task)
        prepare = Preparer(task, plan, VolumeReader(task, values))
        kept = cached_each(home, site_file, records, (repr(plan), repr(sorted(values.items()))), prepare)
        for words in found.unused:
            log.warning("%s: %s", home, words)
        seen = seen_cases(splits, kept)
        seen.check_apart()
        as_checked, words = compared(home, seen.fingerprint(task.name))
        log.log(logging.INFO if as_checked else logging.WARNING, words)
        cases = iter(kept)
        train, validation, test = (_split([next(cases) for _ in splits[name]]) for name in SPLITS)
        return Loaded(train, validation, test)

    def check(self, site_file: SiteFile, task: Task) -> int:
        """Read all volumes once."""
        splits = split_records(find_records(site_file), site_file)
        return sum(1 for _ in read_cases(splits, task, values_of(site_file, task), SeenImages()))

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


def read_cases(
    splits: Mapping[str, Sequence[Record]], task: Task, value_map: Mapping[int, int], seen: SeenImages
) -> Iterator[tuple[Record, VolumeSample]]:
    """Yield every case of a set, in the order of its splits, with the split that it was given.

    Args:
        splits: the records by split.
        task: the site's.
        value_map: see :class:`mucald.data.volumes.reading.VolumeReader`.
        seen: notes every case.

    Raises:
        DataError: a case cannot be read; or, at the end, one lies in two splits.
    """
    reader = VolumeReader(task, value_map)
    for split, records in splits.items():
        for record in records:
            sample, placed = reader.read(record), replace(record, split=split)
            seen.add(placed, sample.volume.values, sample.target_of(record))
            yield placed, sample
    seen.check_apart()


def seen_cases(splits: Mapping[str, Sequence[Record]], kept: Sequence[Mapping[str, Tensor]]) -> SeenImages:
    """Return what :func:`read_cases` would note of cases that are in the cache."""
    seen, cases = SeenImages(), iter(kept)
    for split, records in splits.items():
        for record in records:
            hashes = next(cases)[HASHES].numpy().tobytes().hex()
            half = len(hashes) // 2
            seen.add_hashes(replace(record, split=split), hashes[:half], hashes[half:])
    return seen


def _split(cases: Sequence[Mapping[str, Tensor]]) -> VolumeSplit:
    return VolumeSplit([case[IMAGE] for case in cases], [case[LABELS] for case in cases])


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
