"""Prepared volumes of one split, as networks take them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mucald.data.site_data import Batch, DataSplit

_MOST_PLACES = 10_000


@dataclass(frozen=True)
class VolumeSplit(DataSplit):
    """Volumes of one split; those of a site with files of its own are read from its cache when used.

    Args:
        images: float32, each C x X x Y x Z, normalised; X, Y and Z may differ from volume to volume.
        labels: class ids; of masks uint8, each X x Y x Z, of one class per volume int64 without axes.
        measures: float32, N x 0.
        together: whether all volumes have one shape.
    """

    images: Sequence[Tensor]
    labels: Sequence[Tensor]
    measures: Tensor = field(init=False)
    together: bool = field(init=False)
    _places: dict[int, list[NDArray[np.int64]]] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "measures", torch.empty(len(self.images), 0))
        object.__setattr__(self, "together", len({image.shape for image in self.images}) < 2)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, rows: Iterable[int]) -> Batch:
        """Return whole volumes, in the order of ``rows``.

        Raises:
            RuntimeError: several are asked for, and they differ in shape.
        """
        chosen = [int(row) for row in rows]
        return Batch(
            inputs=torch.stack([self.images[row] for row in chosen]),
            targets=torch.stack([self.labels[row] for row in chosen]).to(torch.int64),
            measures=self.measures[chosen],
        )

    def foreground(self, row: int) -> list[NDArray[np.int64]]:
        """Return voxels (n x 3) of each foreground class that a volume's mask holds, evenly taken from all.

        A mask is searched once, and no more than 10 000 voxels of a class are kept, as in nnU-Net.
        """
        if row not in self._places:
            mask = self.labels[row].numpy()
            found = [np.argwhere(mask == label) for label in np.unique(mask) if label]
            self._places[row] = [voxels[:: 1 + len(voxels) // _MOST_PLACES] for voxels in found]
        return self._places[row]
