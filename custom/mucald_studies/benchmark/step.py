"""Where the time of a training step goes, in one process and over FLARE."""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mucald.errors import TrainingError
from mucald.federation.in_process import run_in_process
from mucald.home import HOME_VARIABLE
from mucald.methods import family_of
from mucald.methods.jobs import load_job
from mucald_studies.benchmark.jobs import simulator_command, variant, variant_content
from mucald_studies.benchmark.parts import AHEAD, BESIDE, PARTS, SERVER, SITE, WAIT, WAIT_FOR_CORE
from mucald_studies.benchmark.probe import Ledger, Probe
from mucald_studies.benchmark.probed import FOLDER_VARIABLE, read_ledgers
from mucald_studies.benchmark.result import Check, Result, ratio
from mucald_studies.reporting.page import Table

MAX_CODEC_SHARE = 0.05
CODEC = ("encode", "decode")
_PROBED = {
    "mucald.flare.controller.FederationController": "mucald_studies.benchmark.probed.ProbedController",
    "mucald.flare.executor.MethodExecutor": "mucald_studies.benchmark.probed.ProbedExecutor",
}


@dataclass(frozen=True)
class StepPlan:
    """What to measure.

    Args:
        job: the job folder; it is run for one round.
        epochs: local epochs of that round.
        threads: sites at once in one process; in the simulator it is all of them.
        flare: whether to measure over FLARE too.
        changes: further values of ``mucald.json`` by dotted key.
    """

    job: Path
    epochs: int
    threads: int
    flare: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict)


def measure(plan: StepPlan) -> dict[str, Ledger]:
    """Run the job for a round and return what its training steps took, by carrier.

    Raises:
        ConfigError: the job is wrong.
        TrainingError: the run over FLARE failed.
    """
    schedule = {"training.rounds": 1, "training.local_epochs": plan.epochs}
    # A term whose weight is still 0 in the first round would not be computed.
    losses = variant_content(plan.job, plan.changes)["losses"]
    ramps = [f"losses.{name}" for name, weight in losses.items() if isinstance(weight, dict)]
    at_once = {f"{term}.{key}": 0.0 for term in ramps for key in ("warm_up", "ramp")}
    changes = {**plan.changes, **schedule, **at_once}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledgers = {"in process": _in_process(plan, changes, folder)}
        if plan.flare:
            ledgers["over FLARE"] = _over_flare(plan, changes, folder)
    return ledgers


def _in_process(plan: StepPlan, changes: Mapping[str, Any], folder: Path) -> Ledger:
    config, sites = load_job(variant(plan.job, folder / "job", changes))
    with Probe(PARTS).installed() as ledger:
        run_in_process(
            family_of(config.method),
            config,
            sites,
            folder / "local",
            lambda site: folder / "homes" / site,
            plan.threads,
        )
    return ledger


def _over_flare(plan: StepPlan, changes: Mapping[str, Any], folder: Path) -> Ledger:
    job = variant(plan.job, folder / "probed", changes, _PROBED)
    probes = folder / "probes"
    probes.mkdir()
    environment = {FOLDER_VARIABLE: str(probes), HOME_VARIABLE: str(folder / "flare_homes")}
    _, sites = load_job(job)
    command = simulator_command(job, folder / "flare", len(sites))
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, cwd=folder
    )
    if done.returncode != 0 or not list(probes.glob("*.json")):
        raise TrainingError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return read_ledgers(probes)


def report(plan: StepPlan, ledgers: Mapping[str, Ledger]) -> Result:
    """Return a table of every side's parts, the idle shares, and the codec's share beside its limit."""
    tables = {
        f"{side}: ms per step of a site (share of the time there)": _table(side, ledgers)
        for side in (SITE, BESIDE, SERVER)
        if any(ledger.of(side) for ledger in ledgers.values())
    }
    idle = {carrier: idle_shares(ledger) for carrier, ledger in ledgers.items()}
    tables["idle shares"] = Table(
        ["", *ledgers],
        [
            [f"{side} idle", *(_percent(idle[carrier].get(side)) for carrier in ledgers)]
            for side in (SITE, SERVER)
        ],
    )
    checks = [
        Check(f"{carrier}: encode + decode / step", codec_share(ledger), MAX_CODEC_SHARE)
        for carrier, ledger in ledgers.items()
    ]
    figures = {
        carrier: {"steps": ledger.steps, "idle": idle[carrier]}
        | {side: per_step(ledger, side) for side in (SITE, BESIDE, SERVER)}
        for carrier, ledger in ledgers.items()
    }
    settings = asdict(plan) | {"job": plan.job.name}
    return Result("step", settings, figures, tables, checks)


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
    totals = {carrier: sum(parts.values()) for carrier, parts in found.items()}
    labels = sorted(
        {label for parts in found.values() for label in parts},
        key=lambda label: -max(parts.get(label, 0.0) for parts in found.values()),
    )
    rows = [[label, *_cells(label, found, totals)] for label in labels]
    rows.append(["all", *(f"{1000 * total:.2f}" for total in totals.values())])
    return Table(["part", *ledgers], rows)


def _cells(
    label: str, found: Mapping[str, Mapping[str, float]], totals: Mapping[str, float]
) -> Sequence[str]:
    return [
        f"{1000 * parts.get(label, 0.0):.2f} ({_percent(ratio(parts.get(label, 0.0), totals[carrier]))})"
        for carrier, parts in found.items()
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"
