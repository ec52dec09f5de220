"""Messages as large as they come, between two real cells."""

import hashlib
import random
import time
from collections.abc import Iterator

import pytest
from federation import free_port
from nvflare.apis.signal import Signal
from nvflare.fuel.f3.cellnet.cell import Cell
from nvflare.fuel.f3.drivers.net_utils import MAX_FRAME_SIZE
from nvflare.fuel.sec.authn import set_add_auth_headers_filters

from mucald.flare.channel import STREAM_FROM, ChannelSender, serve

SERVER, JOB, SITE = "server", "5e0b7a3c-job", "north"
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def site_cell() -> Iterator[Cell]:
    """A site's cell beside a server's that answers with hash and content."""

    def answer(site: str, data: bytes | bytearray | memoryview) -> bytes:
        return site.encode() + hashlib.sha256(data).digest() + bytes(data)

    address = f"tcp://localhost:{free_port()}"
    server, site = (Cell(name, address, False, {}) for name in (SERVER, f"{SITE}.{JOB}"))
    server.start()
    serve(server, JOB, answer)
    site.start()
    set_add_auth_headers_filters(site, SITE, "token", "signature")
    end = time.monotonic() + TIMEOUT_S
    while not site.core_cell.is_cell_connected(SERVER):
        assert time.monotonic() < end, "the cells found no connection"
        time.sleep(0.05)
    yield site
    site.stop()
    server.stop()


@pytest.mark.parametrize("size", [0, 1, STREAM_FROM - 1, STREAM_FROM, STREAM_FROM + 1])
def test_a_message_arrives_whole_in_one_frame_and_in_a_stream(size, site_cell):
    data = random.Random(size).randbytes(size)
    reply = bytes(ChannelSender(site_cell, SERVER, TIMEOUT_S, Signal())(data))
    assert reply == SITE.encode() + hashlib.sha256(data).digest() + data


def test_what_is_sent_in_one_frame_is_far_from_the_largest():
    assert STREAM_FROM < MAX_FRAME_SIZE / 32
