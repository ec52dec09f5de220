"""The frame serves any protocol: here one that counts."""

import pytest
import torch

from mucald.errors import WireError
from mucald.wire.frame import Kind, Message, PhaseSpec, ProtocolField, ProtocolPhase, decode
from mucald.wire.link import Link


class Field(ProtocolField):
    def __new__(cls, number: int, types: tuple[str, ...]) -> "Field":
        field = int.__new__(cls, number)
        field._value_, field.types, field.adds_up = number, frozenset(types), True
        return field

    COUNT = 200, ("int32",)
    RATE = 3, ("float32", "int8")


class Phase(ProtocolPhase):
    def __new__(cls, number: int, spec: PhaseSpec) -> "Phase":
        phase = int.__new__(cls, number)
        phase._value_, phase.spec = number, spec
        return phase

    ADD = 250, PhaseSpec(frozenset({Field.COUNT}), frozenset({Field.RATE}), training=True)
    END = 0, PhaseSpec(frozenset(), frozenset(), optional=frozenset({Field.COUNT}))


def counting(data: bytes) -> bytes:
    message = decode(data, Phase)
    rate = message.fields[Field.COUNT].float() / 2
    return Message(Kind.REPLY, message.phase, message.round, message.step, {Field.RATE: rate}).encode(
        {Field.RATE: "float32"}
    )


def test_a_request_and_its_reply_cross():
    link = Link(counting, lambda data: decode(data, Phase), {}, (7, "north"))
    reply = link.request(Phase.ADD, 1, 2, {Field.COUNT: torch.arange(4, dtype=torch.int32)})
    assert reply[Field.RATE].tolist() == [0.0, 0.5, 1.0, 1.5]
    assert link.traffic.training == link.traffic.up + link.traffic.down > 0


@pytest.mark.parametrize(
    ("phase", "fields", "reason"),
    [
        (Phase.ADD, {}, "field COUNT is missing"),
        (Phase.END, {Field.RATE: torch.ones(1)}, "field 3 is not allowed in this phase"),
    ],
)
def test_what_the_protocol_does_not_allow_is_refused(phase, fields, reason):
    data = Message(Kind.REQUEST, phase, 0, 0, fields).encode({Field.RATE: "float32"})
    with pytest.raises(WireError, match=reason):
        decode(data, Phase)


def test_what_a_phase_may_carry_can_be_left_out():
    for fields in ({}, {Field.COUNT: torch.zeros(2, dtype=torch.int32)}):
        assert decode(Message(Kind.REQUEST, Phase.END, 0, 0, fields).encode(), Phase).fields.keys() == set(
            fields
        )


class Other(ProtocolPhase):
    def __new__(cls, number: int, spec: PhaseSpec) -> "Other":
        phase = int.__new__(cls, number)
        phase._value_, phase.spec = number, spec
        return phase

    BEGIN = 1, PhaseSpec(frozenset(), frozenset())


def test_a_phase_of_another_protocol_is_unknown():
    data = Message(Kind.REPLY, Phase.END, 0, 0, {}).encode()
    with pytest.raises(WireError, match="unknown kind 1 or phase 0"):
        decode(data, Other)
