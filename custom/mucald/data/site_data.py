"""What a site trains and tests on, whatever a sample is: an image, a volume or an embedding."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from mucald.tasks import Task


@dataclass(frozen=True)
class Batch:
    """What a training step reads.

    Args:
        inputs: float32, N x channels x spatial axes, or N x D for embeddings; of images N x 3 x S x S in
            [0, 1].
        targets: int64 class ids, N x spatial axes, or N where a sample has one class.
        measures: float32, N x n; z-scores, NaN where undefined.
    """

    inputs: Tensor
    targets: Tensor
    measures: Tensor


class DataSplit(ABC):
    """Samples of training, validation or test, kept as their loader likes and made ready batch by batch.

    Attributes:
        measures: float32, N x n, as in :class:`Batch`.
        together: whether samples have one shape, so that :meth:`batch` takes several.
    """

    measures: Tensor
    together = True

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abstractmethod
    def batch(self, rows: Iterable[int]) -> Batch:
        """Return the samples ``rows``, in that order."""

    def whole(self) -> Batch:
        """Return all samples, made anew at every call."""
        return self.batch(range(len(self)))


class Loaded(NamedTuple):
    """What a loader makes of a site's files, or draws: its samples, and most of them of one case."""

    train: DataSplit
    validation: DataSplit
    test: DataSplit
    images_per_case: int = 1


@dataclass(frozen=True)
class SiteData:
    """All that a site trains and tests on.

    Args:
        task: what is learnt.
        train: samples to train on.
        validation: samples to choose the best round by.
        test: samples that are looked at once.
        images_per_case: most samples of a case (patient, volume); they share what is told of a patient.
        tensorboard_images: whether example images may be written to the site's run folder.
        noise_secret: what the site's private noise is drawn from.
        source: where the samples come from, in words without paths.
    """

    task: Task
    train: DataSplit
    validation: DataSplit
    test: DataSplit
    images_per_case: int
    tensorboard_images: bool
    noise_secret: str = field(repr=False)
    source: str
