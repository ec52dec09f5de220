import struct
import zlib
from collections import defaultdict

import pytest
import torch

from mucald.errors import WireError
from mucald.methods.split.server.handlers import Handlers
from mucald.methods.split.wire.messages import Field, Kind, Message, Phase, decode

TYPES = {Field.LATENT: "int8", Field.FEATURES: "bfloat16"}


def forward() -> Message:
    fields = {
        Field.LATENT: torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
        Field.LEVEL: torch.tensor([300, 300], dtype=torch.int32),
        Field.PROXIES: torch.tensor([[0.5, -1.0], [0.0, 2.0]]),
        Field.PROXY_MASK: torch.tensor([[1, 1], [0, 1]], dtype=torch.uint8),
    }
    return Message(Kind.REQUEST, Phase.TRAIN_FORWARD, 3, 17, fields)


def reseal(data: bytearray) -> bytes:
    """Make the checksum right again, so that the check behind it is reached."""
    data[24:28] = struct.pack("<I", zlib.crc32(data[28:], zlib.crc32(data[:24])))
    return bytes(data)


def test_a_message_survives_the_wire():
    sent = forward()
    received = decode(sent.encode(TYPES))
    assert (received.kind, received.phase, received.round, received.step) == (
        Kind.REQUEST,
        Phase.TRAIN_FORWARD,
        3,
        17,
    )
    assert set(received.fields) == set(sent.fields)
    assert torch.equal(received.fields[Field.PROXIES], sent.fields[Field.PROXIES])
    assert torch.equal(received.fields[Field.LEVEL], sent.fields[Field.LEVEL])
    torch.testing.assert_close(received.fields[Field.LATENT], sent.fields[Field.LATENT], atol=0.02, rtol=0)


def test_a_rejection_carries_its_reason():
    rejection = decode(Message(Kind.REJECTION, Phase.TEST, 1, 2, {}, "unknown site 'x'").encode())
    assert rejection.kind is Kind.REJECTION
    assert rejection.reason == "unknown site 'x'"


def test_images_labels_and_names_have_no_number():
    """Whatever crosses must be one of these; the noise only ever in the phase that exists to compare with."""
    assert {field.name for field in Field} == {
        "LATENT",
        "LEVEL",
        "PROXIES",
        "PROXY_MASK",
        "FEATURES",
        "FEATURE_GRADIENT",
        "LATENT_GRADIENT",
        "COUNTERS",
        "NOISE",
        "WEIGHTS",
        "INDICES",
        "STEPS",
    }
    carriers = {
        phase
        for phase in Phase
        if Field.NOISE in phase.spec.required | phase.spec.optional | phase.spec.reply
    }
    assert carriers == {Phase.TRAIN_FORWARD_WITH_NOISE}


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, b"XuCA", "magic"),
        (4, b"\x09", "protocol version 9"),
        (16, b"\x01", "length"),
    ],
)
def test_a_wrong_header_is_refused(offset, value, message):
    data = bytearray(forward().encode(TYPES))
    data[offset : offset + len(value)] = value
    with pytest.raises(WireError, match=message):
        decode(data)


def test_a_flipped_bit_anywhere_is_refused():
    data = forward().encode(TYPES)
    for position in range(0, len(data), 7):
        broken = bytearray(data)
        broken[position] ^= 0x10
        with pytest.raises(WireError):
            decode(broken)


def test_every_truncation_is_refused():
    data = forward().encode(TYPES)
    for length in range(0, len(data), 11):
        with pytest.raises(WireError):
            decode(data[:length])


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (5, b"\x07", "unknown kind 7"),
        (6, b"\x63", "unknown kind 0 or phase 99"),
        (6, bytes([Phase.TRAIN_BACKWARD]), "field 1 is not allowed"),
        (7, b"\x03", "scale is not a finite"),
        (7, b"\xff", "truncated descriptors"),
        (28, b"\x63", "field 99 is not allowed"),
        (29, b"\x04", "LATENT may not be of payload type int32"),
        (29, b"\x63", "LATENT may not be of payload type 99"),
        (30, b"\x05", "wrong shape"),
        (32, b"\x00\x00\x00\x00", "wrong shape"),
        (32, b"\xff\xff\xff\xff", "does not fit shape"),
        (48, b"\xff\xff\xff\xff\xff\xff\xff\x7f", "truncated"),
    ],
)
def test_content_that_does_not_fit_is_refused_before_it_is_used(offset, value, message):
    data = bytearray(forward().encode(TYPES))
    data[offset : offset + len(value)] = value
    with pytest.raises(WireError, match=message):
        decode(reseal(data))


def test_every_phase_has_a_handler_at_the_server_and_none_has_no_phase():
    handlers = {name for name, member in vars(Handlers).items() if callable(member) and name[0] != "_"}
    assert {phase.spec.handler for phase in Phase} == handlers - {"answer", "check", "largest_request"}


def test_steps_that_go_together_stand_at_one_place():
    by_place = defaultdict(set)
    for phase in Phase:
        by_place[phase.spec.place].add(phase.name.removesuffix("_RELEASED"))
    assert [sorted(names) for _, names in sorted(by_place.items())] == [
        ["FETCH_FRONT_END"],
        ["VALIDATE"],
        ["REPORT"],
        ["RELEASE"],
        ["TRAIN_BACKWARD", "TRAIN_FORWARD", "TRAIN_FORWARD_WITH_NOISE", "TRAIN_HEAD"],
        ["GIVE_FRONT_END"],
        ["TEST"],
        ["FETCH_MIDDLE"],
    ]


def test_a_missing_field_is_named():
    message = Message(Kind.REQUEST, Phase.TEST, 0, 0, {Field.LEVEL: torch.zeros(2, dtype=torch.int32)})
    with pytest.raises(WireError, match="field LATENT is missing"):
        decode(message.encode())
