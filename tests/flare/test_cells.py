"""Messages as large as they come, between two real cells."""

import hashlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_federation import free_port
from nvflare.apis.signal import Signal
from nvflare.fuel.f3.cellnet.cell import Cell
from nvflare.fuel.f3.cellnet.core_cell import CoreCell
from nvflare.fuel.f3.drivers.net_utils import MAX_FRAME_SIZE
from nvflare.fuel.sec.authn import set_add_auth_headers_filters

from mucald.flare.channel import STREAM_FROM, ChannelSender
from mucald_studies.benchmark.processes import end

SERVER, JOB, SITE = "server", "5e0b7a3c-job", "north"
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def site_cell() -> Iterator[Cell]:
    """A site's cell, connected to a server's in another process, which answers with hash and content."""
    address = f"tcp://localhost:{free_port()}"
    program = Path(__file__).with_name("cell_server.py")
    server = subprocess.Popen(
        [sys.executable, program, address, SERVER, JOB],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    site = Cell(f"{SITE}.{JOB}", address, False, {})
    try:
        assert server.stdout.readline() == "ready\n"
        site.start()
        set_add_auth_headers_filters(site, SITE, "token", "signature")
        limit = time.monotonic() + TIMEOUT_S
        while not site.core_cell.is_cell_connected(SERVER):
            assert time.monotonic() < limit, "the cells found no connection"
            time.sleep(0.05)
        yield site
    finally:
        site.stop()
        end(server)


def test_no_cell_of_this_process_takes_what_is_meant_for_a_server(site_cell):
    assert SERVER not in CoreCell.ALL_CELLS
    assert site_cell.get_fqcn() in CoreCell.ALL_CELLS


@pytest.mark.parametrize("size", [1, STREAM_FROM - 1, STREAM_FROM, STREAM_FROM + 1])
def test_a_message_arrives_whole_in_one_frame_and_in_a_stream(size, site_cell):
    data = random.Random(size).randbytes(size)
    reply = bytes(ChannelSender(site_cell, SERVER, TIMEOUT_S, Signal())(data))
    assert reply == SITE.encode() + hashlib.sha256(data).digest() + data


def test_what_is_sent_in_one_frame_is_far_from_the_largest():
    assert STREAM_FROM < MAX_FRAME_SIZE / 32
