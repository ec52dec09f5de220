"""Round trips per second of every carrier, side by side: the same sites, sizes and moments for all.

Repeats are interleaved, carrier after carrier, so that what else the machine does hits all alike.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from mucald.errors import WireError
from mucald_studies.benchmark.carriers.certificates import Certificates
from mucald_studies.benchmark.carriers.loopback import free_port
from mucald_studies.benchmark.result import Check, Result, ratio
from mucald_studies.reporting.page import Table

CARRIERS = {
    "socket": "TCP socket",
    "grpc": "gRPC",
    "core_cell": "core cell",
    "channel": "this channel",
    "aux": "FLARE aux, tensor",
    "collab": "FLARE Collab, tensor",
}
KIBI, MEBI = 1 << 10, 1 << 20
JUDGED = (2 * MEBI, 8 * MEBI)
"""Sizes at which the channel is held to its limits."""
LIMITS = {"aux": 3.0, "collab": 3.0, "core_cell": 0.7}
"""How many times as fast as another carrier the channel has to be."""
_LEAD_S = 0.02
_MEGA = 1e6

Certified = Mapping[str, Certificates]
Rates = dict[tuple[int, int, str], float]
"""Round trips per second of all sites together, by number of sites, size in bytes, and carrier."""


@dataclass(frozen=True)
class WirePlan:
    """What to measure.

    Args:
        sites: names of the most sites at once; fewer are the first of them.
        counts: numbers of sites at once.
        sizes: payloads in bytes, multiples of four.
        seconds: how long each carrier is measured in each repeat.
        repeats: the median of these is reported.
        carriers: which of :data:`CARRIERS`.
    """

    sites: Sequence[str]
    counts: Sequence[int]
    sizes: Sequence[int]
    seconds: float
    repeats: int
    carriers: Sequence[str] = tuple(CARRIERS)


class _Peer:
    """A process of :mod:`mucald_studies.benchmark.carriers.peer`."""

    def __init__(self, role: Mapping[str, Any]):
        command = [sys.executable, "-m", "mucald_studies.benchmark.carriers.peer", json.dumps(role)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, question: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")

    def answer(self) -> dict[str, Any]:
        """Return the next line that the process says.

        Raises:
            WireError: it has ended.
        """
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise WireError("a process of the benchmark has ended; its reason stands above")
        return json.loads(line)

    def close(self) -> None:
        try:
            # Closes its standard input first, which ends it.
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def peers(sites: Sequence[str], certificates: Certified | None) -> Iterator[list[_Peer]]:
    """Start a server and its sites, and end them; yields the sites.

    Raises:
        WireError: one of them did not start.
    """
    files = {name: asdict(own) for name, own in certificates.items()} if certificates else {}
    common = {"port": free_port()}
    with contextlib.ExitStack() as stack:

        def start(role: dict[str, Any]) -> _Peer:
            peer = _Peer({**common, **role, "certificates": files.get(role["name"])})
            stack.callback(peer.close)
            return peer

        plain = start({"name": "server", "sites": list(sites)}).answer()
        started = [start({"name": site, "plain": plain}) for site in sites]
        for peer in started:
            peer.answer()
        yield started


def measure(plan: WirePlan, certificates: Certified | None = None) -> Rates:
    """Measure every carrier, under mutual TLS if there are certificates of ``server`` and the sites.

    Raises:
        WireError: a process of the benchmark ended, or a payload did not come back whole.
    """
    found: dict[tuple[int, int, str], list[float]] = {}
    with peers(plan.sites[: max(plan.counts)], certificates) as sites:
        for count in plan.counts:
            for size in plan.sizes:
                # The first time connects and allocates; it does not count.
                for repeat in range(-1, plan.repeats):
                    for carrier in plan.carriers:
                        rate = _rate(sites[:count], carrier, size, plan.seconds if repeat >= 0 else 0)
                        if repeat >= 0:
                            found.setdefault((count, size, carrier), []).append(rate)
    return {key: median(rates) for key, rates in found.items()}


def _rate(sites: Sequence[_Peer], carrier: str, size: int, seconds: float) -> float:
    question = {"carrier": carrier, "size": size, "seconds": seconds, "start": time.monotonic() + _LEAD_S}
    for site in sites:
        site.ask(question)
    answers = [site.answer() for site in sites]
    return float(sum(answer["trips"] / answer["seconds"] for answer in answers))


def report(plan: WirePlan, rates: Mapping[str, Rates]) -> Result:
    """Return tables and checks of rates by kind of connection, ``plain`` or ``mutual TLS``."""
    tables, figures, checks = {}, [], list[Check]()
    for kind, of_kind in rates.items():
        for count in plan.counts:
            title = f"{kind}, {count} site{'s' * (count > 1)}: round trips/s (MB/s, both directions)"
            rows = [
                [CARRIERS[carrier]] + [_cell(of_kind[count, size, carrier], size) for size in plan.sizes]
                for carrier in plan.carriers
            ]
            tables[title] = Table(["carrier", *map(size_name, plan.sizes)], rows)
            checks += _checks(plan, kind, count, of_kind)
        for (count, size, carrier), rate in of_kind.items():
            key = {"connection": kind, "sites": count, "bytes": size, "carrier": carrier}
            figures.append({**key, "trips_per_s": rate, "mb_per_s": _throughput(rate, size)})
    return Result("wire", figures, tables, checks)


def _throughput(rate: float, size: int) -> float:
    return 2 * rate * size / _MEGA


def _cell(rate: float, size: int) -> str:
    return f"{rate:.1f} ({_throughput(rate, size):.0f})"


def size_name(size: int) -> str:
    """Return a number of bytes in words."""
    return f"{size / MEBI:g} MiB" if size >= MEBI else f"{size / KIBI:g} KiB"


def _checks(plan: WirePlan, kind: str, count: int, rates: Rates) -> Iterator[Check]:
    for size in filter(JUDGED.__contains__, plan.sizes):
        for carrier, limit in LIMITS.items():
            if {carrier, "channel"} <= set(plan.carriers):
                value = ratio(rates[count, size, "channel"], rates[count, size, carrier])
                name = f"{kind}, {count} × {size_name(size)}: channel / {CARRIERS[carrier]}"
                yield Check(name, value, limit, at_least=True)
