"""A site's data, ready to train on: its own images if it has a site file, phantoms otherwise."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mucald.config.common import PhantomConfig
from mucald.config.job import JobConfig
from mucald.data.cache import cached
from mucald.data.images.phantoms import PHANTOMS
from mucald.data.images.readers import read_record
from mucald.data.layouts import Record, find_records
from mucald.data.site_file import SITE_FILE, SiteFile, noise_secret, read_site_file
from mucald.data.splits import split_records
from mucald.errors import ConfigError
from mucald.randomness import generator
from mucald.tasks import Task, get_task

ROUNDING = 1e-9

Sample = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True)
class Measures:
    """Numbers to be taken of every sample at full resolution, before it is resized.

    Args:
        names: what they are called.
        functions: one each, of image (uint8, H x W x 3) and mask (uint8, H x W); NaN where undefined.
    """

    names: tuple[str, ...] = ()
    functions: tuple[Callable[[NDArray[np.uint8], NDArray[np.uint8]], float], ...] = ()

    def of(self, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> list[float]:
        """Return the numbers of one sample."""
        return [function(image, mask) for function in self.functions]


@dataclass(frozen=True)
class Batch:
    """What a training step reads.

    Args:
        images: float32, N x 3 x S x S, in [0, 1].
        masks: int64 class ids, N x S x S.
        measures: float32, N x n; z-scores, NaN where undefined.
    """

    images: Tensor
    masks: Tensor
    measures: Tensor


@dataclass(frozen=True)
class Split:
    """Images of one split. Pixels and labels are kept as bytes, a quarter and an eighth of what a step needs.

    Args:
        pixels: uint8, N x 3 x S x S.
        labels: uint8 class ids, N x S x S.
        measures: float32, N x n, z-scored with the mean and standard deviation of the training images; NaN
            where undefined.
    """

    pixels: Tensor
    labels: Tensor
    measures: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def images(self) -> Tensor:
        """All images, float32, N x 3 x S x S, in [0, 1]; made anew at every access."""
        return self.pixels.to(torch.float32) / 255

    @property
    def masks(self) -> Tensor:
        """All masks, int64 class ids, N x S x S; made anew at every access."""
        return self.labels.to(torch.int64)

    def batch(self, indices: Iterable[int]) -> Batch:
        """Return the samples at ``indices``, in that order."""
        chosen = torch.as_tensor(list(indices), dtype=torch.int64)
        return Batch(
            images=self.pixels[chosen].to(torch.float32) / 255,
            masks=self.labels[chosen].to(torch.int64),
            measures=self.measures[chosen],
        )


@dataclass(frozen=True)
class SiteData:
    """All that a site trains and tests on.

    Args:
        task: what is segmented.
        train: samples to train on.
        validation: samples to choose the best round by.
        test: samples that are looked at once.
        tensorboard_images: whether example images may be written to the site's run folder.
        noise_secret: what the site's private noise is drawn from.
        source: where the images come from, in words without paths.
        images_per_case: most images of a case (patient, volume); they share what is told of a patient.
    """

    task: Task
    train: Split
    validation: Split
    test: Split
    tensorboard_images: bool
    noise_secret: str = field(repr=False)
    source: str
    images_per_case: int = 1


MeasuresOf = Callable[[str], Measures]


def no_measures(task: str) -> Measures:  # noqa: ARG001 - whatever the task
    """Measure nothing."""
    return Measures()


def load_site_data(
    site: str,
    task_name: str | None,
    image_size: int,
    phantoms: PhantomConfig,
    seed: int,
    home: Path | None,
    measures_of: MeasuresOf = no_measures,
) -> SiteData:
    """Load a site's images if ``<home>/site.json`` exists, or else draw phantoms of ``task_name``.

    Args:
        site: name of the site; its phantoms differ from other sites'.
        task_name: the task that the job gives the site, if any. A site file names its own.
        image_size: side S of the images in pixels. Images are resized to a square, bilinear with
            antialiasing, masks by nearest neighbour; measures are taken before.
        phantoms: how many to draw.
        seed: the job's seed, which phantoms depend on and a site's own images and their splits do not.
        home: the site's folder.
        measures_of: what to measure in samples of a task, given its name.

    Raises:
        ConfigError: the site has no task or an unknown one, job and site file disagree on it, or no phantoms
            are wanted.
        DataError: the site file or an image is missing or wrong.
    """
    if home is not None and (home / SITE_FILE).exists():
        return _own_images(site, task_name, image_size, home, measures_of)
    if task_name is None:
        raise ConfigError(
            f"site '{site}' has no task: put a {SITE_FILE} that names task and images into its folder, "
            f"or set sites.{site}.task in the job to draw phantoms"
        )
    task = get_task(task_name)
    counts = {"train": phantoms.train, "validation": phantoms.validation, "test": phantoms.test}
    arrays: dict[str, Tensor] = {}
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"data.phantoms.{name} must be at least 1, not {count}")
        drawn = (
            PHANTOMS[task.name](generator(seed, site, "phantom", name, i), image_size) for i in range(count)
        )
        arrays |= _prepare(name, drawn, measures_of(task.name), image_size)
    secret = phantom_secret(seed)
    return SiteData(task, *_splits(arrays), tensorboard_images=True, noise_secret=secret, source="phantoms")


def load_for(
    site: str, config: JobConfig, home: Path, pictures: bool, measures_of: MeasuresOf = no_measures
) -> SiteData:
    """Load what a job needs of a site.

    ``pictures`` says whether its policy allows any; its ``site.json`` must too. Other arguments and errors
    are those of :func:`load_site_data`.
    """
    data = load_site_data(
        site,
        config.site(site).task,
        config.data.image_size,
        config.data.phantoms,
        config.seed,
        home,
        measures_of,
    )
    return replace(data, tensorboard_images=data.tensorboard_images and pictures)


def phantom_secret(seed: int) -> str:
    """Return what the noise on phantoms is drawn from; nothing about them is private."""
    return f"job seed {seed}"


def _own_images(
    site: str, task_name: str | None, image_size: int, home: Path, measures_of: MeasuresOf
) -> SiteData:
    site_file = read_site_file(home / SITE_FILE)
    if task_name is not None and task_name != site_file.task:
        raise ConfigError(
            f"the job gives site '{site}' the task '{task_name}', its {SITE_FILE} '{site_file.task}'; "
            f"remove sites.{site}.task from the job or correct the site file"
        )
    task, records = get_task(site_file.task), find_records(site_file)
    measures = measures_of(task.name)
    arrays = cached(
        home,
        site_file,
        records,
        (image_size, *measures.names),
        lambda: _prepare_records(records, site_file, task, measures, image_size),
    )
    return SiteData(
        task,
        *_splits(arrays),
        tensorboard_images=site_file.tensorboard_images,
        noise_secret=noise_secret(site_file, home),
        source=f"own images ({site_file.layout or 'datalist'})",
        images_per_case=int(arrays["images_per_case"]),
    )


def _prepare_records(
    records: list[Record], site_file: SiteFile, task: Task, measures: Measures, image_size: int
) -> dict[str, Tensor]:
    arrays: dict[str, Tensor] = {}
    images: Counter[str] = Counter()

    def samples(chosen: list[Record]) -> Iterator[Sample]:
        for record in chosen:
            pixels, labels = read_record(record, task, site_file.value_map)
            images[record.case] += len(pixels)
            yield from zip(pixels, labels, strict=True)

    for name, chosen in split_records(records, site_file).items():
        arrays |= _prepare(name, samples(chosen), measures, image_size)
    return arrays | {"images_per_case": torch.tensor(max(images.values()))}


def _prepare(split: str, samples: Iterable[Sample], measures: Measures, image_size: int) -> dict[str, Tensor]:
    """Resize the samples of a split and measure them, at full resolution and not yet z-scored."""
    pixels, labels, measured = [], [], []
    for image, mask in samples:
        measured.append(measures.of(image, mask))
        pixels.append(resize(image, image_size, Image.Resampling.BILINEAR))
        labels.append(resize(mask, image_size, Image.Resampling.NEAREST))
    return {
        f"{split}.pixels": torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(),
        f"{split}.labels": torch.from_numpy(np.stack(labels)),
        f"{split}.measures": torch.tensor(measured, dtype=torch.float64),
    }


def resize(array: NDArray[np.uint8], size: int, method: Image.Resampling) -> NDArray[np.uint8]:
    """Return an image (H x W x 3) or mask (H x W) as a square of side ``size``, as training sees it."""
    if array.shape[:2] == (size, size):
        return array
    return np.asarray(Image.fromarray(array).resize((size, size), method))


def _splits(arrays: dict[str, Tensor]) -> tuple[Split, Split, Split]:
    mean, deviation = training_statistics(arrays["train.measures"].numpy())

    def split(name: str) -> Split:
        centred = arrays[f"{name}.measures"].numpy() - mean
        # A measure that does not vary in training says nothing: 0 wherever it is defined.
        scores = np.where(deviation > 0, centred / np.where(deviation > 0, deviation, 1), centred * 0)
        measures = torch.from_numpy(scores).to(torch.float32)
        return Split(arrays[f"{name}.pixels"], arrays[f"{name}.labels"], measures)

    return split("train"), split("validation"), split("test")


def training_statistics(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation (ddof 1) of each column over its defined values.

    The standard deviation is 0 for a column that is constant up to rounding or has fewer than two values.
    """
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    mean = np.where(defined, values, 0).sum(axis=0) / np.maximum(count, 1)
    squares = np.where(defined, (values - mean) ** 2, 0).sum(axis=0)
    deviation = np.sqrt(squares / np.maximum(count - 1, 1))
    return mean, np.where(deviation > ROUNDING * np.abs(mean), deviation, 0)
