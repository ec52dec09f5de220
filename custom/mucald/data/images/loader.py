"""Loads images with masks: a site's own, kept in its cache, or phantoms. Volumes count as their slices."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from mucald.config.common import DataConfig
from mucald.config.schema import closest
from mucald.data.cache import cached
from mucald.data.checked import SeenImages, compared
from mucald.data.images.phantoms import PHANTOMS
from mucald.data.images.phantoms.scanner import SCANNERS
from mucald.data.images.readers import Sample, read_set
from mucald.data.images.squares import Slice, prepare, split_of
from mucald.data.measures import Measures
from mucald.data.records.layouts import SPLITS, Record, find_records, find_set
from mucald.data.records.splits import split_records
from mucald.data.site_data import Loaded
from mucald.data.site_file import SiteFile
from mucald.errors import ConfigError
from mucald.randomness import generator
from mucald.tasks import Task

log = logging.getLogger(__name__)

_FINGERPRINT = "fingerprint"


class ImageLoader:
    """See :class:`mucald.data.loading.Loader`."""

    def own(
        self, home: Path, site_file: SiteFile, task: Task, data: DataConfig, measures: Measures
    ) -> Loaded:
        """Read a site's own images."""
        found, size = find_set(site_file), data.image_size

        def arrays() -> dict[str, Tensor]:
            return _prepared(found.records, site_file, task, measures, size)

        kept = cached(home, site_file, found.records, (size, *measures.names), arrays)
        for words in found.unused:
            log.warning("%s: %s", home, words)
        as_checked, words = compared(home, kept[_FINGERPRINT].numpy().tobytes().hex())
        log.log(logging.INFO if as_checked else logging.WARNING, words)
        return _loaded(kept)

    def check(self, site_file: SiteFile, task: Task) -> int:
        """Read all images and masks once."""
        splits = split_records(find_records(site_file), site_file)
        return sum(1 for _ in read_set(splits, task, site_file.value_map, SeenImages()))

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

        def drawn(split: str) -> Iterator[Slice]:
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
    seen = SeenImages()

    def slices(read: Iterable[tuple[Record, Sample]]) -> Iterator[Slice]:
        for record, sample in read:
            images[record.case] += len(sample.labels)
            yield from zip(sample.image.pixels, sample.labels, strict=True)

    read = read_set(split_records(records, site_file), task, site_file.value_map, seen)
    arrays: dict[str, Tensor] = {}
    for split, chosen in groupby(read, key=lambda pair: pair[0].split):
        arrays |= prepare(split, slices(chosen), measures, size)
    fingerprint = torch.frombuffer(bytearray.fromhex(seen.fingerprint(task.name)), dtype=torch.uint8)
    return arrays | {"images_per_case": torch.tensor(max(images.values())), _FINGERPRINT: fingerprint}


def _loaded(arrays: dict[str, Tensor]) -> Loaded:
    train, validation, test = (split_of(arrays, split) for split in SPLITS)
    return Loaded(train, validation, test, int(arrays["images_per_case"]))
