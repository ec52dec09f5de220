"""A server's cell in a process of its own; it answers with the sender, and hash and content of what it got.

``python cell_server.py ADDRESS NAME JOB``; it says ``ready`` and ends when its standard input does. FLARE
hands messages between cells of one process over without a wire, and a server's cell in a process gets all
that the process has to say to any server.
"""

import hashlib
import sys

from nvflare.fuel.f3.cellnet.cell import Cell

from mucald.flare.channel import serve


def answer(site: str, data: bytes | bytearray | memoryview) -> bytes:
    """Return what the test expects."""
    return site.encode() + hashlib.sha256(data).digest() + bytes(data)


if __name__ == "__main__":
    address, name, job = sys.argv[1:]
    cell = Cell(name, address, False, {})
    cell.start()
    serve(cell, job, answer)
    print("ready", flush=True)
    sys.stdin.read()
    cell.stop()
