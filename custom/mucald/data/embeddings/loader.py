"""Loads embeddings: a site's own set, or those of phantoms, whose class is what they show."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mucald.config.common import DataConfig
from mucald.config.schema import closest
from mucald.data.checked import content_hash
from mucald.data.embeddings import extractor
from mucald.data.embeddings.sets import HASH_BYTES, EmbeddingSet, Header, read_set
from mucald.data.embeddings.splits import rows_by_split
from mucald.data.measures import Measures
from mucald.data.site_data import Batch, DataSplit, Loaded
from mucald.data.site_file import SiteFile
from mucald.errors import ConfigError, DataError
from mucald.randomness import generator
from mucald.tasks import Task

LAYOUT = "embeddings"
PHANTOM_TASK = "phantom_kind"


@dataclass(frozen=True)
class EmbeddingSplit(DataSplit):
    """Embeddings of one split, standardised by their set's public reference where it has one.

    Args:
        content: the samples.
        measures: N x 0; embeddings have none.
    """

    content: EmbeddingSet
    measures: Tensor

    def __len__(self) -> int:
        return len(self.content)

    def batch(self, rows: Iterable[int]) -> Batch:
        """Return the samples ``rows``, in that order; inputs are N x D."""
        chosen = torch.as_tensor(list(rows), dtype=torch.int64)
        return Batch(standardised(self.content)[chosen], self.content.labels[chosen], self.measures[chosen])

    @property
    def hashes(self) -> list[bytes]:
        """Content hash of every image."""
        return [bytes(row) for row in self.content.hashes.tolist()]


def standardised(content: EmbeddingSet) -> Tensor:
    """Return embeddings (N, D) less mean and by deviation of the public reference; as they are without one.

    What varies less than the median of all numbers is divided by that median: on a site's own images it may
    vary far more, and would then drown the others.
    """
    if content.reference is None:
        return content.embeddings
    mean, deviation = content.reference
    return (content.embeddings - mean) / deviation.clamp(min=float(deviation.median()) or 1.0)


class EmbeddingLoader:
    """See :class:`mucald.data.loading.Loader`."""

    def own(
        self,
        home: Path,  # noqa: ARG002 - a set needs no cache
        site_file: SiteFile,
        task: Task,
        data: DataConfig,  # noqa: ARG002 - embeddings are used as they are
        measures: Measures,  # noqa: ARG002 - there are none of embeddings
    ) -> Loaded:
        """Read a site's own set."""
        content = own_set(site_file, task)
        rows = rows_by_split(content, site_file)
        counts: dict[str, int] = {}
        for row in range(len(content)):
            counts[content.case(row)] = counts.get(content.case(row), 0) + 1
        train, validation, test = (_split(content.chosen(chosen)) for chosen in rows.values())
        return Loaded(train, validation, test, max(counts.values()))

    def check(self, site_file: SiteFile, task: Task) -> int:
        """Read the set once."""
        content = own_set(site_file, task)
        rows_by_split(content, site_file)
        return len(content)

    def phantoms(
        self,
        site: str,
        task: Task,
        data: DataConfig,
        seed: int,
        measures: Measures,  # noqa: ARG002 - there are none of embeddings
        scanner: str,
    ) -> Loaded:
        """Draw images of all kinds and embed them; how many of each kind differs from site to site.

        A site's shares of the kinds are one draw of a Dirichlet distribution (Hsu et al., "Measuring the
        effects of non-identical data distribution", 2019), alike in all splits.
        """
        # Only who draws phantoms needs them.
        from mucald.data.images.phantoms.scanner import SCANNERS

        if task.name != PHANTOM_TASK:
            raise ConfigError(
                f"task '{task.name}' has no phantoms; give site '{site}' a site.json that names a set of its "
                f"own, or the task {PHANTOM_TASK}"
            )
        if scanner not in SCANNERS:
            raise ConfigError(
                f"sites.{site}.scanner: there is no '{scanner}'{closest(scanner, list(SCANNERS))}"
            )
        shares = np.full(task.n_classes, 1 / task.n_classes)
        if (alpha := data.phantoms.class_skew) is not None:
            shares = generator(seed, site, "class shares").dirichlet(np.full(task.n_classes, alpha))

        def drawn(split: str) -> EmbeddingSplit:
            labels = _labels(shares, getattr(data.phantoms, split), seed, site, split)
            draws = [generator(seed, site, "phantom", split, index) for index in range(len(labels))]
            return phantom_split(task, labels, data.image_size, scanner, draws)

        return Loaded(drawn("train"), drawn("validation"), drawn("test"))


def phantom_split(
    task: Task, labels: Sequence[int], size: int, scanner: str, draws: Sequence[np.random.Generator]
) -> EmbeddingSplit:
    """Embed a phantom of each class in ``labels``, drawn by the generator in the same place.

    Args:
        task: its classes are kinds of phantoms.
        labels: numbers of classes.
        size: pixels of a side.
        scanner: the device that takes them.
        draws: one for each phantom.
    """
    from mucald.data.images.phantoms import PHANTOMS
    from mucald.data.images.phantoms.scanner import SCANNERS

    take = SCANNERS[scanner].take
    pairs = zip(labels, draws, strict=True)
    images = [take(*PHANTOMS[task.classes[label]](rng, size), rng)[0] for label, rng in pairs]
    return _split(_embedded(images, list(labels), task))


def own_set(site_file: SiteFile, task: Task) -> EmbeddingSet:
    """Read the set that a site file names, and check that it is one of the task.

    Raises:
        DataError: it names none, or the set is wrong or of other classes.
    """
    if site_file.layout != LAYOUT or site_file.root is None:
        raise DataError(
            f"site.json: task '{task.name}' takes embeddings: give 'root' the file of a set and 'layout' "
            f'"{LAYOUT}"; "mucald embed" makes sets of images',
            public="the site's data file site.json is wrong",
        )
    path = Path(site_file.root)
    content = read_set(path)
    if content.header.classes != task.classes:
        raise DataError(
            f"{path}: its classes are {', '.join(content.header.classes)}, those of task {task.name} "
            f"{', '.join(task.classes)}; embed the images again with --task {task.name}",
            public="the site's embedding set has other classes than its task",
        )
    return content


def _split(content: EmbeddingSet) -> EmbeddingSplit:
    return EmbeddingSplit(content, torch.zeros(len(content), 0))


def _labels(shares: np.ndarray, count: int, seed: int, site: str, split: str) -> list[int]:
    """Return the classes of ``count`` samples: their expected numbers, and the rest by largest remainder."""
    exact = shares * count
    whole = np.floor(exact).astype(int)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: count - whole.sum()]] += 1
    labels = np.repeat(np.arange(len(shares)), whole)
    return generator(seed, site, "class order", split).permutation(labels).tolist()


def _embedded(images: list[np.ndarray], labels: list[int], task: Task) -> EmbeddingSet:
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(torch.float32) / 255
    header = Header(extractor.NAME, extractor.weights_hash(), extractor.PREPROCESSING, task.classes)
    hashes = [bytearray(bytes.fromhex(content_hash(image))[:HASH_BYTES]) for image in images]
    return EmbeddingSet(
        header,
        extractor.embed(pixels),
        torch.tensor(labels),
        torch.stack([torch.frombuffer(digest, dtype=torch.uint8) for digest in hashes]),
        reference=extractor.reference(),
    )
