"""Where the time of a training step goes, in one process and over FLARE."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mucald.federation.in_process import run_in_process
from mucald.home import HOME_VARIABLE
from mucald.methods import family_of
from mucald.methods.jobs import load_job
from mucald_studies.benchmark.probing.parts import AHEAD, BESIDE, PARTS, SERVER, SITE, WAIT, WAIT_FOR_CORE
from mucald_studies.benchmark.probing.probe import Ledger, Probe
from mucald_studies.benchmark.probing.probed import FOLDER_VARIABLE, read_ledgers
from mucald_studies.benchmark.processes import execute
from mucald_studies.benchmark.result import Check, Result, ratio
from mucald_studies.jobs import changed, command, write_job
from mucald_studies.reporting.page import Table

MAX_CODEC_SHARE = 0.05
CODEC = ("encode", "decode")
_MODULE = "mucald_studies.benchmark.probing.probed"
_PROBED = {
    "mucald.flare.controller.FederationController": f"{_MODULE}.ProbedController",
    "mucald.flare.executor.MethodExecutor": f"{_MODULE}.ProbedExecutor",
}


def measure(
    job: Path, changes: Mapping[str, Any], epochs: int, threads: int, flare: bool = True
) -> dict[str, Ledger]:
    """Run a job for one round of so many epochs and return what its training steps took, by carrier.

    In one process with so many sites at once; over ``flare`` too, with all of them.

    Raises:
        ConfigError: the job is wrong.
        TrainingError: the run over FLARE failed.
    """
    more: dict[str, Any] = {"training.rounds": 1, "training.local_epochs": epochs}
    # A term whose weight is still 0 in the first round would not be computed.
    losses = changed(job, changes).to_dict()["losses"]
    ramps = [f"losses.{name}" for name, weight in losses.items() if isinstance(weight, dict)]
    more |= {f"{term}.{key}": 0.0 for term in ramps for key in ("warm_up", "ramp")}
    content = changed(job, {**changes, **more}).to_dict()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledgers = {"in process": _in_process(write_job(job, folder / "job", content), folder, threads)}
        if flare:
            ledgers["over FLARE"] = _over_flare(write_job(job, folder / "probed", content, _PROBED), folder)
    return ledgers


def _in_process(job: Path, folder: Path, threads: int) -> Ledger:
    config, sites = load_job(job)
    home, family = folder / "homes", family_of(config.method)
    with Probe(PARTS).installed() as ledger:
        run_in_process(family, config, sites, folder / "local", lambda site: home / site, threads)
    return ledger


def _over_flare(job: Path, folder: Path) -> Ledger:
    probes, threads = folder / "probes", len(load_job(job)[1])
    probes.mkdir()
    environment = {FOLDER_VARIABLE: str(probes), HOME_VARIABLE: str(folder / "flare_homes")}
    execute(command(job, folder / "flare", threads, simulator=True), environment, folder / "log.txt")
    return read_ledgers(probes)


def report(ledgers: Mapping[str, Ledger]) -> Result:
    """Return a table of every side's parts, the idle shares, and the codec's share beside its limit."""
    tables = {
        f"{side}: ms per step of a site (share of the time there)": _table(side, ledgers)
        for side in (SITE, BESIDE, SERVER)
        if any(ledger.of(side) for ledger in ledgers.values())
    }
    idle = {carrier: idle_shares(ledger) for carrier, ledger in ledgers.items()}
    shares = [[f"{side} idle", *(_percent(of[side]) for of in idle.values())] for side in (SITE, SERVER)]
    tables["idle shares"] = Table(["", *ledgers], shares)
    figures = {
        carrier: {"steps": ledger.steps, "idle": idle[carrier]}
        | {side: per_step(ledger, side) for side in (SITE, BESIDE, SERVER)}
        for carrier, ledger in ledgers.items()
    }
    checks = [
        Check(f"{carrier}: encode + decode / step", codec_share(ledger), MAX_CODEC_SHARE)
        for carrier, ledger in ledgers.items()
    ]
    return Result("step", figures, tables, checks)


def per_step(ledger: Ledger, side: str) -> dict[str, float]:
    """Return seconds per step of a site by part, the largest first."""
    return {label: seconds / ledger.steps for label, seconds in ledger.of(side).items()}


def codec_share(ledger: Ledger) -> float:
    """Return the share of encoding and decoding in all that both sides do in a step, waiting left out."""
    parts = [
        (label, seconds) for side in (SITE, BESIDE, SERVER) for label, seconds in ledger.of(side).items()
    ]
    work = sum(seconds for label, seconds in parts if label not in (WAIT, WAIT_FOR_CORE))
    return ratio(sum(seconds for label, seconds in parts if label in CODEC), work)


def idle_shares(ledger: Ledger) -> dict[str, float]:
    """Return the shares of time in which a site waits, and in which the server has nothing to do.

    In one process a site's threads do the server's work themselves. There a site has no idle time unless its
    messages have a thread of their own.
    """
    site = ledger.of(SITE)
    span, busy = ledger.busy()
    steps = sum(seconds for label, seconds in site.items() if label != AHEAD)
    return {SITE: ratio(site.get(WAIT, 0.0), steps), SERVER: 1 - ratio(busy, span)}


def _table(side: str, ledgers: Mapping[str, Ledger]) -> Table:
    found = {carrier: per_step(ledger, side) for carrier, ledger in ledgers.items()}
    largest: dict[str, float] = {}
    for parts in found.values():
        largest |= {label: max(seconds, largest.get(label, 0.0)) for label, seconds in parts.items()}
    rows = []
    for label in [*sorted(largest, key=lambda label: -largest[label]), "all"]:
        row = [label]
        for parts in found.values():
            total = sum(parts.values())
            seconds = total if label == "all" else parts.get(label, 0.0)
            row.append(f"{1000 * seconds:.2f} ({_percent(ratio(seconds, total))})")
        rows.append(row)
    return Table(["part", *ledgers], rows)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
