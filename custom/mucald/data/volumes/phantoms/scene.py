"""A drawn scene before any device looks at it: tissues, their intensities, and what of them is learnt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mucald.data.volumes.phantoms.canvas import Tissue


@dataclass(frozen=True)
class Scene:
    """Anatomy.

    Args:
        tissue: number of the tissue of every voxel, X x Y x Z.
        table: the tissues' intensities, tissues x C; of CT in HU, of MR from 0 to 1.
        classes: the tissues of each class of a mask; all others are background.
    """

    tissue: Tissue
    table: NDArray[np.float32]
    classes: Mapping[int, tuple[int, ...]]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Class of every voxel."""
        lookup = np.zeros(len(self.table), dtype=np.uint8)
        for label, tissues in self.classes.items():
            lookup[list(tissues)] = label
        return lookup[self.tissue]


def table_of(intensities: Mapping[Any, tuple[float, ...]]) -> NDArray[np.float64]:
    """Return the table of a scene: a row per tissue, in the order of their numbers."""
    return np.array([intensities[tissue] for tissue in sorted(intensities)], dtype=np.float64)
