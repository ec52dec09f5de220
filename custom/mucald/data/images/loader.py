"""Loads images with masks: a site's own, kept in its cache, or phantoms. Volumes count as their slices."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mucald.config.common import DataConfig
from mucald.config.schema import closest
from mucald.data.cache import cached
from mucald.data.images.phantoms import PHANTOMS
from mucald.data.images.phantoms.scanner import SCANNERS
from mucald.data.images.readers import read_record
from mucald.data.images.squares import Sample, prepare, split_of
from mucald.data.layouts import SPLITS, Record, find_records
from mucald.data.measures import Measures
from mucald.data.site_data import Loaded
from mucald.data.site_file import SiteFile
from mucald.data.splits import split_records
from mucald.errors import ConfigError
from mucald.randomness import generator
from mucald.tasks import Task


class ImageLoader:
    """See :class:`mucald.data.loading.Loader`."""

    def own(
        self, home: Path, site_file: SiteFile, task: Task, data: DataConfig, measures: Measures
    ) -> Loaded:
        """Read a site's own images."""
        records, size = find_records(site_file), data.image_size

        def arrays() -> dict[str, Tensor]:
            return _prepared(records, site_file, task, measures, size)

        return _loaded(cached(home, site_file, records, (size, *measures.names), arrays))

    def check(self, site_file: SiteFile, task: Task) -> int:
        """Read all images and masks once."""
        records = find_records(site_file)
        for record in records:
            read_record(record, task, site_file.value_map)
        return len(records)

    def phantoms(
        self, site: str, task: Task, data: DataConfig, seed: int, measures: Measures, scanner: str
    ) -> Loaded:
        """Draw images of a task."""
        if task.name not in PHANTOMS:
            raise ConfigError(
                f"task '{task.name}' has no phantoms (known: {', '.join(PHANTOMS)}); give site '{site}' a "
                "site.json that names images of its own"
            )
        if scanner not in SCANNERS:
            raise ConfigError(
                f"sites.{site}.scanner: there is no '{scanner}'{closest(scanner, list(SCANNERS))}"
            )
        draw, take, size = PHANTOMS[task.name], SCANNERS[scanner].take, data.image_size

        def drawn(split: str) -> Iterator[Sample]:
            for index in range(getattr(data.phantoms, split)):
                rng = generator(seed, site, "phantom", split, index)
                yield take(*draw(rng, size), rng)

        arrays = {"images_per_case": torch.tensor(1)}
        for split in SPLITS:
            arrays |= prepare(split, drawn(split), measures, size)
        return _loaded(arrays)


def _prepared(
    records: list[Record], site_file: SiteFile, task: Task, measures: Measures, size: int
) -> dict[str, Tensor]:
    images: Counter[str] = Counter()

    def samples(chosen: list[Record]) -> Iterator[Sample]:
        for record in chosen:
            pixels, labels = read_record(record, task, site_file.value_map)
            images[record.case] += len(pixels)
            yield from zip(pixels, labels, strict=True)

    arrays: dict[str, Tensor] = {}
    for split, chosen in split_records(records, site_file).items():
        arrays |= prepare(split, samples(chosen), measures, size)
    return arrays | {"images_per_case": torch.tensor(max(images.values()))}


def _loaded(arrays: dict[str, Tensor]) -> Loaded:
    train, validation, test = (split_of(arrays, split) for split in SPLITS)
    return Loaded(train, validation, test, int(arrays["images_per_case"]))
