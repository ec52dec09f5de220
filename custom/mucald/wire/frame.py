"""The messages of a protocol of steps: a fixed, versioned header before raw tensors.

Layout, little-endian, without padding::

    header      magic "MuCA" | version u8 | kind u8 | phase u8 | fields u8 | round u32 | step u32
                | payload bytes u64 | CRC-32 of all else u32
    descriptor  field u8 | payload type u8 | dimensions u8 | reserved u8 | shape 4 x u32 | bytes u64
    data        the tensors, one after the other

A method's protocol is two enumerations: everything that can cross (:class:`ProtocolField`), and the steps in
which it does (:class:`ProtocolPhase`). What has no number there, no message can hold.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Generic, TypeVar

from torch import Tensor

from mucald.errors import WireError
from mucald.randomness import Key
from mucald.wire.codec import FORMATS, NAMES, decode_tensor

MAGIC = b"MuCA"
VERSION = 2
_HEADER = struct.Struct("<4sBBBBIIQ")
_CHECKSUM = struct.Struct("<I")
_DESCRIPTOR = struct.Struct("<BBBB4IQ")
MAX_DIMENSIONS = 4
MAX_MESSAGE_BYTES = 1 << 30
_MAX_REASON = 1000

Data = bytes | bytearray | memoryview


class Kind(IntEnum):
    """Request, reply, or the refusal of a request."""

    REQUEST = 0
    REPLY = 1
    REJECTION = 2


class ProtocolField(IntEnum):
    """Everything that can cross in a protocol.

    ``types``: the payload types that a field may have.
    ``adds_up``: whether the receiver sums it over steps, as it does gradients.
    """

    types: frozenset[str]
    adds_up: bool


@dataclass(frozen=True)
class PhaseSpec:
    """What the messages of a step hold.

    Args:
        required: fields of the request.
        reply: fields of the answer.
        optional: fields that the request may have beside.
        training: whether the step is one of training, whose bytes are counted apart.
    """

    required: frozenset[Any]
    reply: frozenset[Any]
    optional: frozenset[Any] = field(default=frozenset(), kw_only=True)
    training: bool = field(default=False, kw_only=True)


class ProtocolPhase(IntEnum):
    """The steps of a protocol, each a number on the wire and its ``spec``."""

    spec: PhaseSpec


P = TypeVar("P", bound=ProtocolPhase)
F = TypeVar("F", bound=ProtocolField)


@dataclass(frozen=True)
class Message(Generic[P, F]):
    """One message.

    Args:
        kind: request, reply or rejection.
        phase: what it is for.
        round: round of the run, from 0.
        step: mini-batch within the phase, from 0.
        fields: the tensors.
        reason: why a request was refused; of a rejection only.
    """

    kind: Kind
    phase: P
    round: int
    step: int
    fields: dict[F, Tensor]
    reason: str = ""

    def encode(self, payload_types: Mapping[F, str] | None = None, sender: Key | None = None) -> bytes:
        """Return the message as bytes; the same message gives the same bytes.

        Args:
            payload_types: payload type per field; a field that is not named takes its only type.
            sender: the job's seed and the site that the message is from or for. With it gradients of few
                levels are rounded stochastically: a sum over steps then errs by chance alone, where rounding
                to the nearest level drops all that is small. What is used once is rounded to the nearest.
        """
        if self.kind is Kind.REJECTION:
            return self._framed(0, self.reason.encode()[:_MAX_REASON])
        descriptors, data = [], []
        for kind, tensor in sorted(self.fields.items()):
            payload = FORMATS[(payload_types or {}).get(kind) or _only(kind.types)]
            key = (*sender, self.round, self.step, kind.name, "rounding") if sender and kind.adds_up else None
            encoded = payload.encode(tensor, key)
            shape = tuple(tensor.shape) + (0,) * (MAX_DIMENSIONS - tensor.ndim)
            descriptors.append(_DESCRIPTOR.pack(kind, payload.code, tensor.ndim, 0, *shape, len(encoded)))
            data.append(encoded)
        return self._framed(len(descriptors), b"".join(descriptors + data))

    def _framed(self, n_fields: int, payload: bytes) -> bytes:
        header = _HEADER.pack(
            MAGIC, VERSION, self.kind, self.phase, n_fields, self.round, self.step, len(payload)
        )
        checksum = zlib.crc32(payload, zlib.crc32(header))
        return b"".join((header, _CHECKSUM.pack(checksum), payload))


def _only(names: frozenset[str]) -> str:
    (name,) = names
    return name


def decode(data: Data, phases: type[P], max_bytes: int = MAX_MESSAGE_BYTES) -> Message[P, Any]:
    """Decode and validate a message.

    What a message declares is compared with its length before anything is allocated, and a tensor takes at
    most eight times the bytes that carry it (int4).

    Args:
        data: the message.
        phases: the protocol.
        max_bytes: how long it may be.

    Raises:
        WireError: naming the first thing that is wrong: magic, version, length, checksum, kind, phase, a
            field that the phase lacks or may not carry, payload type, shape, size, or a number not finite.
    """
    view = memoryview(data).cast("B")
    start = _HEADER.size + _CHECKSUM.size
    if not start <= len(view) <= max_bytes:
        raise WireError(f"message of {len(view)} bytes; expected {start} to {max_bytes}")
    magic, version, kind, phase, n_fields, round_number, step, size = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise WireError("not a message of this protocol (wrong magic)")
    if version != VERSION:
        raise WireError(f"protocol version {version}, this side speaks {VERSION}; install the same package")
    payload = view[start:]
    if size != len(payload):
        raise WireError(f"length {len(payload)} of the payload differs from the header's {size}")
    (checksum,) = _CHECKSUM.unpack_from(view, _HEADER.size)
    if checksum != zlib.crc32(payload, zlib.crc32(view[: _HEADER.size])):
        raise WireError("checksum does not match")
    try:
        head = Kind(kind), phases(phase), round_number, step
    except ValueError:
        raise WireError(f"unknown kind {kind} or phase {phase}") from None
    if head[0] is Kind.REJECTION:
        return Message(*head, {}, bytes(payload).decode(errors="replace"))
    spec, optional = head[1].spec, frozenset[Any]()
    required = spec.reply
    if head[0] is Kind.REQUEST:
        required, optional = spec.required, spec.optional
    return Message(*head, _decode_fields(payload, n_fields, required, optional))


def _decode_fields(
    payload: memoryview, n_fields: int, required: frozenset[F], optional: frozenset[F]
) -> dict[F, Tensor]:
    position = n_fields * _DESCRIPTOR.size
    if position > len(payload):
        raise WireError("truncated descriptors")
    allowed = {int(one): one for one in required | optional}
    fields: dict[F, Tensor] = {}
    for index in range(n_fields):
        code, type_code, ndim, _, *shape, size = _DESCRIPTOR.unpack_from(payload, index * _DESCRIPTOR.size)
        if code not in allowed:
            raise WireError(f"field {code} is not allowed in this phase")
        found, name = allowed[code], NAMES.get(type_code)
        if found in fields:
            raise WireError(f"field {found.name} occurs twice")
        if name not in found.types:
            raise WireError(f"field {found.name} may not be of payload type {name or type_code}")
        if not 1 <= ndim <= MAX_DIMENSIONS or 0 in shape[:ndim] or any(shape[ndim:]):
            raise WireError(f"field {found.name} has a wrong shape")
        if size > len(payload) - position:
            raise WireError(f"field {found.name} is truncated")
        fields[found] = decode_tensor(name, payload[position : position + size], tuple(shape[:ndim]))
        position += size
    if position != len(payload):
        raise WireError(f"{len(payload) - position} bytes too many")
    if missing := required - set(fields):
        raise WireError(f"field {min(missing).name} is missing")
    return fields
