"""Tensors as raw bytes: float32, bfloat16, and int8 and int4 with one scale per sample and channel.

Nothing is pickled. A decoder checks length, scale and finiteness before a tensor reaches the model.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from mucald import randomness
from mucald.errors import WireError
from mucald.randomness import Key

INT8_LIMIT = 127
INT4_LIMIT = 7
_NIBBLE = 16


class Encode(Protocol):
    """Turns a tensor into bytes.

    With a ``key`` a type with few levels rounds stochastically, by draws that the key names, so that what is
    decoded is right on average (Gupta et al., "Deep Learning with Limited Numerical Precision", ICML 2015);
    without one it rounds to the nearest level. Other types have no use for it.
    """

    def __call__(self, tensor: Tensor, key: Key | None = None) -> bytes:
        """Return the bytes of ``tensor``."""


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
    encode: Encode
    decode: Callable[[memoryview, tuple[int, ...]], Tensor]
    size: Callable[[tuple[int, ...]], int]


def _plain(code: int, dtype: torch.dtype, result: torch.dtype) -> PayloadFormat:
    def encode(tensor: Tensor, key: Key | None = None) -> bytes:  # noqa: ARG001 - nothing is drawn
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


def _quantised(
    code: int,
    limit: int,
    pack: Callable[[Tensor], bytes],
    unpack: Callable[[memoryview, int], Tensor],
    packed_size: Callable[[int], int],
) -> PayloadFormat:
    """Return a type of 2 · ``limit`` + 1 levels.

    The scale, one per sample and channel, is the largest magnitude / ``limit``.

    Args:
        code: its number on the wire.
        limit: the highest level.
        pack: levels (planes, n), int8, to bytes.
        unpack: bytes and number of levels to levels, int8.
        packed_size: number of bytes for so many levels.
    """

    def encode(tensor: Tensor, key: Key | None = None) -> bytes:
        planes = tensor.detach().to("cpu", torch.float32).reshape(_scale_count(tuple(tensor.shape)), -1)
        scales = planes.abs().amax(dim=1, keepdim=True) / limit
        # A plane of zeros, or too small for a scale. A NaN has to stay one, so that the receiver refuses it.
        scales = torch.where(scales == 0, torch.ones_like(scales), scales)
        exact = planes / scales
        if key is None:
            levels = exact.round_()
        else:
            levels = exact.add_(randomness.uniform(tuple(exact.shape), *key)).floor_()
        return scales.numpy().tobytes() + pack(levels.clamp_(-limit, limit).to(torch.int8))

    def decode(data: memoryview, shape: tuple[int, ...]) -> Tensor:
        count = _scale_count(shape)
        scales = torch.from_numpy(np.frombuffer(data, dtype="<f4", count=count).copy())
        if not bool((torch.isfinite(scales) & (scales > 0)).all()):
            raise WireError(f"int{limit.bit_length() + 1} scale is not a finite positive number")
        levels = unpack(data[4 * count :], math.prod(shape))
        return (levels.reshape(count, -1).to(torch.float32) * scales[:, None]).reshape(shape)

    return PayloadFormat(
        code, encode, decode, lambda shape: 4 * _scale_count(shape) + packed_size(math.prod(shape))
    )


def _pack_bytes(levels: Tensor) -> bytes:
    return levels.numpy().tobytes()


def _unpack_bytes(data: memoryview, count: int) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, dtype=np.int8, count=count).copy())


def _pack_halves(levels: Tensor) -> bytes:
    """Put two levels into every byte, the first into its lower half, as level modulo 16."""
    flat = levels.numpy().reshape(-1).view(np.uint8) % _NIBBLE
    if len(flat) % 2:
        flat = np.append(flat, np.uint8(0))
    return (flat[0::2] | flat[1::2] << 4).tobytes()


def _unpack_halves(data: memoryview, count: int) -> Tensor:
    packed = np.frombuffer(data, dtype=np.int8)
    # Shifts of signed numbers carry the sign along.
    levels = np.stack((packed << 4 >> 4, packed >> 4), axis=1).reshape(-1)
    return torch.from_numpy(levels[:count])


FORMATS: dict[str, PayloadFormat] = {
    "float32": _plain(1, torch.float32, torch.float32),
    "bfloat16": _plain(2, torch.bfloat16, torch.float32),
    "int8": _quantised(3, INT8_LIMIT, _pack_bytes, _unpack_bytes, lambda count: count),
    "int32": _plain(4, torch.int32, torch.int32),
    "uint8": _plain(5, torch.uint8, torch.uint8),
    "float64": _plain(6, torch.float64, torch.float64),
    "int4": _quantised(7, INT4_LIMIT, _pack_halves, _unpack_halves, lambda count: (count + 1) // 2),
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
