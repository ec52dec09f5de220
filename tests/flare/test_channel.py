"""Whom the server takes a message to come from."""

from collections.abc import Callable

import pytest
from nvflare.apis.fl_constant import CellMessageAuthHeaderKey
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey, ReturnCode
from nvflare.fuel.f3.message import Message

from mucald.flare.channel import CHANNEL, TOPIC, serve

JOB = "5e0b7a3c-job"


class FakeCell:
    """Takes the handler that a real cell would call."""

    def register_request_cb(self, channel: str, topic: str, cb: Callable[[Message], Message]) -> None:
        assert (channel, topic) == (CHANNEL, TOPIC)
        self.answer = cb


@pytest.fixture
def received() -> list[tuple[str, bytes]]:
    return []


@pytest.fixture
def send(received):
    cell = FakeCell()

    def handler(site: str, data: bytes) -> bytes:
        received.append((site, bytes(data)))
        return b"reply to " + site.encode()

    serve(cell, JOB, handler)

    def sending(origin: object, name: object, payload: object = b"step") -> Message:
        headers = {MessageHeaderKey.ORIGIN: origin, CellMessageAuthHeaderKey.CLIENT_NAME: name}
        present = {key: value for key, value in headers.items() if value is not None}
        return cell.answer(Message(present, payload))

    return sending


@pytest.mark.parametrize("payload", [b"step", bytearray(b"step"), memoryview(b"step")])
@pytest.mark.parametrize("origin", [f"north.{JOB}", f"relay.north.{JOB}"])
def test_a_sites_own_cell_of_this_job_is_answered(origin, payload, send, received):
    reply = send(origin, "north", payload)
    assert reply.get_header(MessageHeaderKey.RETURN_CODE) == ReturnCode.OK
    assert reply.payload == b"reply to north"
    assert received == [("north", b"step")]


@pytest.mark.parametrize(
    ("origin", "name"),
    [
        (f"south.{JOB}", "north"),
        (f"north.{JOB}", "south"),
        (f"north.south.{JOB}", "north"),
        ("north.another-job", "north"),
        (f"north.{JOB}.rank1", "north"),
        ("north", "north"),
        (JOB, JOB),
        (f".{JOB}", ""),
        (f"north.{JOB}", None),
        (None, "north"),
        ("", "north"),
        (7, "north"),
        (f"north.{JOB}", ["north"]),
        (["north", JOB], "north"),
        (f"server.{JOB}", "north"),
    ],
)
def test_a_message_whose_headers_disagree_or_of_another_job_is_refused(origin, name, send, received):
    reply = send(origin, name)
    assert reply.get_header(MessageHeaderKey.RETURN_CODE) == ReturnCode.INVALID_REQUEST
    assert received == []


@pytest.mark.parametrize("payload", [None, "step", {"step": 1}, [b"step"], 7])
def test_a_payload_that_is_no_bytes_is_refused(payload, send, received):
    reply = send(f"north.{JOB}", "north", payload)
    assert reply.get_header(MessageHeaderKey.RETURN_CODE) == ReturnCode.INVALID_REQUEST
    assert received == []
