"""Tensors as raw bytes: float32, bfloat16, and int8 with one scale per sample and channel.

Nothing is pickled. A decoder checks length, scale and finiteness before a tensor reaches the model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mucald.errors import WireError

INT8_LIMIT = 127


@dataclass(frozen=True)
class PayloadFormat:
    """How one payload type lies in memory.

    Args:
        code: its number on the wire.
        encode: tensor to bytes.
        decode: bytes and shape to tensor; the length has been checked.
        size: number of bytes for a shape.
    """

    code: int
    encode: Callable[[Tensor], bytes]
    decode: Callable[[memoryview, tuple[int, ...]], Tensor]
    size: Callable[[tuple[int, ...]], int]


def _plain(code: int, dtype: torch.dtype, result: torch.dtype) -> PayloadFormat:
    def encode(tensor: Tensor) -> bytes:
        # The view as bytes covers bfloat16, for which numpy has no type.
        return tensor.detach().to("cpu", dtype).contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()

    def decode(data: memoryview, shape: tuple[int, ...]) -> Tensor:
        if not data:
            return torch.empty(shape, dtype=result)
        # A copy, because the received bytes are read-only and autograd may write.
        return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape).to(result)

    return PayloadFormat(code, encode, decode, lambda shape: math.prod(shape) * dtype.itemsize)


def _scale_count(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:2])


def _encode_int8(tensor: Tensor) -> bytes:
    """Round to the nearest of 255 levels; the scale is the largest magnitude of a sample's channel."""
    planes = tensor.detach().to("cpu", torch.float32).reshape(_scale_count(tuple(tensor.shape)), -1)
    largest = planes.abs().amax(dim=1, keepdim=True)
    scales = largest / INT8_LIMIT
    # A plane of zeros, or too small for a scale. A NaN has to stay one, so that the other side refuses it.
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)
    levels = (planes / scales).round_().clamp_(-INT8_LIMIT, INT8_LIMIT).to(torch.int8)
    return scales.numpy().tobytes() + levels.numpy().tobytes()


def _decode_int8(data: memoryview, shape: tuple[int, ...]) -> Tensor:
    count = _scale_count(shape)
    scales = torch.from_numpy(np.frombuffer(data, dtype="<f4", count=count).copy())
    if not bool((torch.isfinite(scales) & (scales > 0)).all()):
        raise WireError("int8 scale is not a finite positive number")
    levels = torch.from_numpy(np.frombuffer(data, dtype=np.int8, offset=4 * count).copy())
    return (levels.reshape(count, -1).to(torch.float32) * scales[:, None]).reshape(shape)


FORMATS: dict[str, PayloadFormat] = {
    "float32": _plain(1, torch.float32, torch.float32),
    "bfloat16": _plain(2, torch.bfloat16, torch.float32),
    "int8": PayloadFormat(
        3, _encode_int8, _decode_int8, lambda shape: 4 * _scale_count(shape) + math.prod(shape)
    ),
    "int32": _plain(4, torch.int32, torch.int32),
    "uint8": _plain(5, torch.uint8, torch.uint8),
    "float64": _plain(6, torch.float64, torch.float64),
}
NAMES = {payload.code: name for name, payload in FORMATS.items()}


def decode_tensor(name: str, data: memoryview, shape: tuple[int, ...]) -> Tensor:
    """Decode ``data`` of payload type ``name``.

    Raises:
        WireError: the length does not fit the shape, or a number is not finite.
    """
    payload = FORMATS[name]
    if len(data) != payload.size(shape):
        raise WireError(f"payload of {len(data)} bytes does not fit shape {shape} of type {name}")
    tensor = payload.decode(data, shape)
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise WireError(f"payload of type {name} holds a number that is not finite")
    return tensor
