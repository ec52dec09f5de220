"""Patches of volumes: where they lie, and how they are cut out, warped on the way where training asks it."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mucald.data.volumes.split import VolumeSplit

FORCED = 3
"""One of so many patches has foreground at its centre, as in nnU-Net."""


def patch_centre(
    split: VolumeSplit, row: int, size: Sequence[int], forced: bool, draws: np.random.Generator
) -> NDArray[np.float64]:
    """Draw where a patch's centre lies (3), in voxels; the patch is within the volume where that is larger.

    Args:
        split: the volumes.
        row: of which one.
        size: the patch's.
        forced: put a voxel of a class drawn from those that the mask holds as near to the centre as can be;
            without effect on a mask that holds none.
        draws: what is drawn from.
    """
    shape, half = np.array(split.images[row].shape[1:]), np.array(size) // 2
    room = shape - np.array(size)
    drawn = draws.random(3)
    first = np.floor(drawn * (np.maximum(room, 0) + 1)).astype(np.int64)
    if forced and (places := split.foreground(row)):
        voxels = places[draws.integers(len(places))]
        first = np.clip(voxels[draws.integers(len(voxels))] - half, 0, np.maximum(room, 0))
    # Of a volume that is smaller the patch has all, in its middle.
    first = np.where(room < 0, -((-room) // 2), first)
    return first + (np.array(size) - 1) / 2


def cut_out(volume: Tensor, centre: NDArray[np.float64], size: Sequence[int]) -> Tensor:
    """Return the patch (C x size, or size) of a volume (C x X x Y x Z, or X x Y x Z), 0 where there is none.

    Args:
        volume: what to cut from.
        centre: of the patch, in voxels.
        size: in voxels.
    """
    first = np.rint(centre - (np.array(size) - 1) / 2).astype(int).tolist()
    shape = volume.shape[-3:]
    inside = [slice(max(a, 0), max(min(a + n, s), 0)) for a, n, s in zip(first, size, shape, strict=True)]
    patch = volume[..., inside[0], inside[1], inside[2]]
    margins = [(max(-a, 0), max(a + n - s, 0)) for a, n, s in zip(first, size, shape, strict=True)]
    if not any(map(any, margins)):
        return patch
    # torch counts margins from the last axis on.
    return F.pad(
        patch, [min(m, n) for (pair, n) in zip(margins[::-1], size[::-1], strict=True) for m in pair]
    )


def centred(volume: NDArray[np.float32], size: Sequence[int]) -> NDArray[np.float32]:
    """Return the middle of a volume (C x X x Y x Z), cut or padded with 0 to ``size``.

    Of an odd number of voxels that are cut or added, the one left over is the last: as MONAI's
    ``ResizeWithPadOrCrop`` has it.
    """
    room = np.array(volume.shape[1:]) - np.array(size)
    centre = np.where(room < 0, -(-room // 2), room // 2) + (np.array(size) - 1) / 2
    return cut_out(torch.from_numpy(np.ascontiguousarray(volume)), centre, size).contiguous().numpy()
