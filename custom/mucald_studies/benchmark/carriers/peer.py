"""A process of the wire benchmark: the server that echoes, or a site that times round trips.

``python -m mucald_studies.benchmark.carriers.peer '<JSON>'``. A peer prints a line of JSON when it is ready
and ends with its standard input. A site answers each line of it, ``{"carrier", "size", "seconds", "start"}``,
with ``{"trips", "seconds"}``; ``start`` is a time of the machine's monotonic clock, so that sites begin
together.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mucald.errors import WireError
from mucald_studies.benchmark.carriers import plain
from mucald_studies.benchmark.carriers.certificates import Certificates
from mucald_studies.benchmark.carriers.flare import CARRIERS, SiteCell, serve_cells


def _say(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


class _Site:
    """A site's carriers and the payloads that are ready to be sent."""

    def __init__(self, name: str, port: int, addresses: dict[str, str], certificates: Certificates | None):
        self._folder = tempfile.TemporaryDirectory()
        for subfolder in ("startup", "local"):
            (Path(self._folder.name) / subfolder).mkdir()
        cell = SiteCell(name, port, certificates, Path(self._folder.name))
        self._prepare: dict[str, Callable[[bytes], plain.Trip]] = {
            "socket": plain.connect_socket(addresses["socket"], certificates),
            "grpc": plain.connect_grpc(addresses["grpc"], certificates),
            **{carrier: partial(prepare, cell) for carrier, prepare in CARRIERS.items()},
        }
        self._trips: dict[tuple[str, int], plain.Trip] = {}

    def measure(self, carrier: str, size: int, seconds: float, start: float) -> dict[str, Any]:
        """Make round trips for ``seconds``, at least one, after one that does not count.

        Raises:
            WireError: another number of bytes came back than was sent.
        """
        if (carrier, size) not in self._trips:
            self._trips[carrier, size] = self._prepare[carrier](os.urandom(size))
            back = self._trips[carrier, size]()
            if back != size:
                raise WireError(f"{carrier}: {back} bytes came back of {size}")
        trip = self._trips[carrier, size]
        time.sleep(max(0.0, start - time.monotonic()))
        begin, trips = time.perf_counter(), 0
        while trips == 0 or time.perf_counter() - begin < seconds:
            trip()
            trips += 1
        return {"trips": trips, "seconds": time.perf_counter() - begin}


def main() -> None:
    """Be what the command line says."""
    role = json.loads(sys.argv[1])
    certificates = Certificates(**role["certificates"]) if role["certificates"] else None
    if role["name"] == "server":
        serve_cells(role["port"], role["sites"], certificates)
        _say({"socket": plain.serve_socket(certificates), "grpc": plain.serve_grpc(certificates)})
        sys.stdin.read()
    else:
        site = _Site(role["name"], role["port"], role["plain"], certificates)
        _say({"ready": True})
        for line in sys.stdin:
            _say(site.measure(**json.loads(line)))
    sys.stdout.flush()
    # FLARE's threads would keep the process alive.
    os._exit(0)


if __name__ == "__main__":
    main()
