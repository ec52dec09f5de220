"""The messages of the split protocol: a fixed, versioned header before raw tensors.

Layout, little-endian, without padding::

    header      magic "MuCA" | version u8 | kind u8 | phase u8 | fields u8 | round u32 | step u32
                | payload bytes u64 | CRC-32 of all else u32
    descriptor  field u8 | payload type u8 | dimensions u8 | reserved u8 | shape 4 x u32 | bytes u64
    data        the tensors, one after the other

:class:`Field` lists everything that can cross, and :data:`REQUESTS` and :data:`REPLIES` which phase may carry
what: images, labels, clean latents, seeds and file names have no number, so no message can hold them.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

from mucald.errors import WireError
from mucald.wire.codec import FORMATS, NAMES, Key, decode_tensor

MAGIC = b"MuCA"
VERSION = 1
_HEADER = struct.Struct("<4sBBBBIIQ")
_CHECKSUM = struct.Struct("<I")
_DESCRIPTOR = struct.Struct("<BBBB4IQ")
MAX_DIMENSIONS = 4
MAX_MESSAGE_BYTES = 1 << 30
_MAX_REASON = 1000


class Kind(IntEnum):
    """Request, reply, or the refusal of a request."""

    REQUEST = 0
    REPLY = 1
    REJECTION = 2


class Phase(IntEnum):
    """The steps of the protocol."""

    VALIDATE = 1
    REPORT = 2
    TRAIN_FORWARD = 3
    TRAIN_FORWARD_WITH_NOISE = 4
    TRAIN_BACKWARD = 5
    TEST = 6
    FETCH_FRONT_END = 7
    GIVE_FRONT_END = 8
    TRAIN_HEAD = 9
    RELEASE = 10
    VALIDATE_RELEASED = 11
    TRAIN_FORWARD_RELEASED = 12
    TRAIN_BACKWARD_RELEASED = 13


class Field(IntEnum):
    """Everything that can cross the wire.

    ``NOISE`` exists for ``epsilon`` supervision alone, ``WEIGHTS`` for algorithms that share front ends, and
    ``INDICES`` for sites that release every image once.
    """

    LATENT = 1
    LEVEL = 2
    PROXIES = 3
    PROXY_MASK = 4
    FEATURES = 5
    FEATURE_GRADIENT = 6
    LATENT_GRADIENT = 7
    COUNTERS = 8
    NOISE = 9
    WEIGHTS = 10
    INDICES = 11


_KINDS = frozenset(Kind)
_PHASES = frozenset(Phase)


@dataclass(frozen=True)
class _Content:
    required: frozenset[Field]
    optional: frozenset[Field] = frozenset()


_PROXIES = frozenset({Field.PROXIES, Field.PROXY_MASK})
_LATENT = frozenset({Field.LATENT, Field.LEVEL})
_FEATURES = _Content(frozenset({Field.FEATURES}))
_WEIGHTS = _Content(frozenset({Field.WEIGHTS}))
_INDICES = _Content(frozenset({Field.INDICES}))
_NOTHING = _Content(frozenset())
REQUESTS = {
    Phase.VALIDATE: _Content(_LATENT, _PROXIES),
    Phase.REPORT: _Content(frozenset({Field.COUNTERS})),
    Phase.TRAIN_FORWARD: _Content(_LATENT, _PROXIES),
    Phase.TRAIN_FORWARD_WITH_NOISE: _Content(_LATENT | {Field.NOISE}, _PROXIES),
    Phase.TRAIN_BACKWARD: _Content(frozenset({Field.FEATURE_GRADIENT})),
    Phase.TEST: _Content(_LATENT),
    Phase.FETCH_FRONT_END: _NOTHING,
    Phase.GIVE_FRONT_END: _WEIGHTS,
    Phase.TRAIN_HEAD: _Content(_LATENT),
    Phase.RELEASE: _Content(_LATENT, _PROXIES),
    Phase.VALIDATE_RELEASED: _INDICES,
    Phase.TRAIN_FORWARD_RELEASED: _INDICES,
    Phase.TRAIN_BACKWARD_RELEASED: _Content(frozenset({Field.FEATURE_GRADIENT})),
}
REPLIES = {
    Phase.VALIDATE: _FEATURES,
    Phase.REPORT: _Content(frozenset({Field.COUNTERS})),
    Phase.TRAIN_FORWARD: _FEATURES,
    Phase.TRAIN_FORWARD_WITH_NOISE: _FEATURES,
    Phase.TRAIN_BACKWARD: _Content(frozenset({Field.LATENT_GRADIENT})),
    Phase.TEST: _FEATURES,
    Phase.FETCH_FRONT_END: _WEIGHTS,
    Phase.GIVE_FRONT_END: _NOTHING,
    Phase.TRAIN_HEAD: _FEATURES,
    Phase.RELEASE: _NOTHING,
    Phase.VALIDATE_RELEASED: _FEATURES,
    Phase.TRAIN_FORWARD_RELEASED: _FEATURES,
    Phase.TRAIN_BACKWARD_RELEASED: _NOTHING,
}
_REAL = frozenset({"float32", "bfloat16", "int8", "int4"})
PAYLOAD_TYPES = {
    Field.LATENT: _REAL,
    Field.LEVEL: frozenset({"int32"}),
    Field.PROXIES: frozenset({"float32"}),
    Field.PROXY_MASK: frozenset({"uint8"}),
    Field.FEATURES: _REAL,
    Field.FEATURE_GRADIENT: _REAL,
    Field.LATENT_GRADIENT: _REAL,
    Field.COUNTERS: frozenset({"float64"}),
    Field.NOISE: frozenset({"float32"}),
    Field.WEIGHTS: frozenset({"float32"}),
    Field.INDICES: frozenset({"int32"}),
}
_GRADIENTS = frozenset({Field.FEATURE_GRADIENT, Field.LATENT_GRADIENT})


@dataclass(frozen=True)
class Message:
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
    phase: Phase
    round: int
    step: int
    fields: dict[Field, Tensor]
    reason: str = ""

    def encode(self, payload_types: dict[Field, str] | None = None, sender: Key | None = None) -> bytes:
        """Return the message as bytes; the same message gives the same bytes.

        Args:
            payload_types: payload type per field; a field that is not named takes its only type.
            sender: the job's seed and the site that the message is from or for. With it gradients of few
                levels are rounded stochastically: a sum over steps then errs by chance alone, where rounding
                to the nearest level drops all that is small. Latents and features are used once.
        """
        if self.kind is Kind.REJECTION:
            return _frame(self, 0, self.reason.encode()[:_MAX_REASON])
        descriptors, data = [], []
        for field, tensor in sorted(self.fields.items()):
            name = (payload_types or {}).get(field) or _only_type(field)
            encoded = FORMATS[name].encode(tensor, self._rounding(field, sender))
            shape = tuple(tensor.shape) + (0,) * (MAX_DIMENSIONS - tensor.ndim)
            descriptors.append(
                _DESCRIPTOR.pack(field, FORMATS[name].code, tensor.ndim, 0, *shape, len(encoded))
            )
            data.append(encoded)
        return _frame(self, len(descriptors), b"".join(descriptors + data))

    def _rounding(self, field: Field, sender: Key | None) -> Key | None:
        """Return what names the draws that a field is rounded by; None where it is rounded to the nearest."""
        if sender is None or field not in _GRADIENTS:
            return None
        return (*sender, self.round, self.step, field.name, "rounding")


def check_finite(fields: dict[Field, Tensor]) -> None:
    """Check that all numbers are finite, which the other side would refuse otherwise.

    Raises:
        WireError: naming the field that holds others.
    """
    for field, tensor in fields.items():
        if not bool(tensor.isfinite().all()):
            raise WireError(f"the answer's {field.name} is not finite")


def _only_type(field: Field) -> str:
    (name,) = PAYLOAD_TYPES[field]
    return name


def _frame(message: Message, n_fields: int, payload: bytes) -> bytes:
    header = _HEADER.pack(
        MAGIC, VERSION, message.kind, message.phase, n_fields, message.round, message.step, len(payload)
    )
    checksum = zlib.crc32(payload, zlib.crc32(header))
    return b"".join((header, _CHECKSUM.pack(checksum), payload))


def decode(data: bytes | bytearray | memoryview, max_bytes: int = MAX_MESSAGE_BYTES) -> Message:
    """Decode and validate a message.

    What a message declares is compared with its length before anything is allocated, and a tensor takes at
    most four times the bytes that carry it (int8).

    Args:
        data: the message.
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
    if kind not in _KINDS or phase not in _PHASES:
        raise WireError(f"unknown kind {kind} or phase {phase}")
    if Kind(kind) is Kind.REJECTION:
        reason = bytes(payload).decode(errors="replace")
        return Message(Kind.REJECTION, Phase(phase), round_number, step, {}, reason)
    content = (REQUESTS if Kind(kind) is Kind.REQUEST else REPLIES)[Phase(phase)]
    fields = _decode_fields(payload, n_fields, content)
    return Message(Kind(kind), Phase(phase), round_number, step, fields)


def _decode_fields(payload: memoryview, n_fields: int, content: _Content) -> dict[Field, Tensor]:
    position = n_fields * _DESCRIPTOR.size
    if position > len(payload):
        raise WireError("truncated descriptors")
    fields: dict[Field, Tensor] = {}
    for index in range(n_fields):
        code, type_code, ndim, _, *shape, size = _DESCRIPTOR.unpack_from(payload, index * _DESCRIPTOR.size)
        if code not in content.required | content.optional:
            raise WireError(f"field {code} is not allowed in this phase")
        field = Field(code)
        if field in fields:
            raise WireError(f"field {field.name} occurs twice")
        name = NAMES.get(type_code)
        if name not in PAYLOAD_TYPES[field]:
            raise WireError(f"field {field.name} may not be of payload type {name or type_code}")
        if not 1 <= ndim <= MAX_DIMENSIONS or 0 in shape[:ndim] or any(shape[ndim:]):
            raise WireError(f"field {field.name} has a wrong shape")
        if size > len(payload) - position:
            raise WireError(f"field {field.name} is truncated")
        fields[field] = decode_tensor(name, payload[position : position + size], tuple(shape[:ndim]))
        position += size
    if position != len(payload):
        raise WireError(f"{len(payload) - position} bytes too many")
    if missing := content.required - set(fields):
        raise WireError(f"field {min(missing).name} is missing")
    return fields
