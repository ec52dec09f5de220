"""Sealed ends as tensors of FLARE's model messages: the number of their round, then bytes."""

import struct

import numpy as np
import torch
from torch import Tensor

from mucald.errors import WireError

SEALED = "sealed"
"""The name of the one tensor that a site sends; the server relays it under the site's."""

_ROUND = struct.Struct("<I")


def packed(round_number: int, data: bytes) -> Tensor:
    """Return a tensor (n,), uint8."""
    return torch.from_numpy(np.frombuffer(_ROUND.pack(round_number) + data, dtype=np.uint8).copy())


def unpacked(tensor: Tensor) -> tuple[int, bytes]:
    """Return what :func:`packed` was given.

    Raises:
        WireError: it is no such tensor.
    """
    if tensor.dtype != torch.uint8 or tensor.dim() != 1 or len(tensor) < _ROUND.size:
        raise WireError("what came for sealed ends is none; a filter must leave them as they are")
    data = tensor.cpu().numpy().tobytes()
    return _ROUND.unpack_from(data)[0], data[_ROUND.size :]
