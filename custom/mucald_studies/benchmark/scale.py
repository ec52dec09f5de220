"""How the server bears many sites: latency, memory, aggregation, and how they grow."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mucald.errors import TrainingError
from mucald_studies.benchmark.jobs import variant_content
from mucald_studies.benchmark.result import Check, Result, ratio
from mucald_studies.reporting.page import Table

COUNTS = (1, 2, 5, 10, 20, 50)
SMALL, LARGE = 5, 50
"""Numbers of sites between which growth is judged."""
MAX_GROWTH = 1.1
"""Of latency over that of the work, which is at most proportional; a tenth is left to noise."""
MAX_MEMORY = 1.2
MAX_DRIFT = 1.01
_MEGA = 1e6


@dataclass(frozen=True)
class ScalePlan:
    """What to measure.

    Args:
        job: the job folder; its sites' tasks are taken in turn.
        counts: numbers of sites.
        rounds: rounds for each number, of which the first is not timed.
        steps: training steps of each site and round.
        changes: further values of ``mucald.json`` by dotted key.
    """

    job: Path
    counts: Sequence[int] = COUNTS
    rounds: int = 3
    steps: int = 10
    changes: Mapping[str, Any] = field(default_factory=dict)


def measure(plan: ScalePlan) -> list[dict[str, Any]]:
    """Return what :func:`mucald_studies.benchmark.synthetic.measure` found for each number of sites.

    Raises:
        ConfigError: the job is wrong.
        TrainingError: a process failed.
    """
    content = variant_content(plan.job, plan.changes)
    found = []
    for count in plan.counts:
        question = {"content": content, "count": count, "rounds": plan.rounds, "steps": plan.steps}
        command = [sys.executable, "-m", "mucald_studies.benchmark.synthetic", json.dumps(question)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise TrainingError(f"{count} synthetic sites: {done.stderr.strip()[-2000:]}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def summary(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of one number of sites: seconds, bytes, and steps per second."""
    sites, steps = found["sites"], len(found["latency"])
    return {
        "sites": sites,
        "p50": float(np.percentile(found["latency"], 50)),
        "p95": float(np.percentile(found["latency"], 95)),
        "steps_per_s": steps / found["span"],
        "cores": found["processor"] / found["span"],
        # Of one step of every site, were it alone on all cores.
        "work": sites * found["processor"] / steps / (os.cpu_count() or 1),
        "needed": found["needed"],
        "tensors": max(found["tensors"]) / sites,
        "resident": max(found["resident"]),
        "aggregation": found["between"].get("aggregation", 0.0),
        "discriminators": found["between"].get("discriminators", 0.0),
        "checkpoint": found["between"].get("checkpoint", 0.0),
    }


def exponent(counts: Sequence[float], values: Sequence[float]) -> float:
    """Return b of the law a · sites^b by least squares of the logarithms; NaN with less than two points."""
    points = [
        (math.log(count), math.log(value)) for count, value in zip(counts, values, strict=True) if value > 0
    ]
    if len({x for x, _ in points}) < 2:
        return math.nan
    x, y = zip(*points, strict=True)
    return float(np.polyfit(x, y, 1)[0])


def report(plan: ScalePlan, found: Sequence[Mapping[str, Any]]) -> Result:
    """Return tables, the fitted laws, and the ratios beside their limits."""
    rows = [summary(each) for each in found]
    growth = {name: exponent([row["sites"] for row in rows], [row[name] for row in rows]) for name in _LAWS}
    tables = {
        "latency of a training step (synthetic sites: they compute nothing)": Table(
            ["sites", "p50 [ms]", "p95 [ms]", "steps/s", "cores used", "work/cores [ms]"],
            [
                [
                    str(row["sites"]),
                    *(f"{1000 * row[name]:.1f}" for name in ("p50", "p95")),
                    *(f"{row[name]:.1f}" for name in ("steps_per_s", "cores")),
                    f"{1000 * row['work']:.1f}",
                ]
                for row in rows
            ],
        ),
        "server memory per site, MB": Table(
            ["sites", "parameters, gradients, optimiser", "all tensors", "resident, all sites"],
            [
                [
                    str(row["sites"]),
                    *(f"{row[name] / _MEGA:.2f}" for name in ("needed", "tensors", "resident")),
                ]
                for row in rows
            ],
        ),
        "between rounds, ms": Table(
            ["sites", *_BETWEEN],
            [[str(row["sites"]), *(f"{1000 * row[name]:.1f}" for name in _BETWEEN)] for row in rows],
        ),
        "growth: value ∝ sites^b": Table(
            ["value", "b"], [[_LAWS[name], f"{power:.2f}"] for name, power in growth.items()]
        ),
    }
    figures = {
        "by_sites": rows,
        "tensors": [each["tensors"] for each in found],
        "growth": {name: power if math.isfinite(power) else None for name, power in growth.items()},
    }
    settings = asdict(plan) | {"job": plan.job.name}
    return Result("scale", settings, figures, tables, _checks(rows, found))


_BETWEEN = ("aggregation", "discriminators", "checkpoint")
_LAWS = {
    "p50": "p50 of a step",
    "p95": "p95 of a step",
    "work": "work of one step of every site",
    "aggregation": "aggregation",
    "tensors": "tensors per site",
}


def _checks(rows: Sequence[Mapping[str, float]], found: Sequence[Mapping[str, Any]]) -> list[Check]:
    by_count = {int(row["sites"]): row for row in rows}
    checks = []
    if {SMALL, LARGE} <= by_count.keys():
        small, large = by_count[SMALL], by_count[LARGE]
        value = ratio(large["p50"] / small["p50"], large["work"] / small["work"])
        checks.append(Check(f"growth of p50 / growth of work, {SMALL} to {LARGE} sites", value, MAX_GROWTH))
    for row in rows:
        name = f"{row['sites']} sites: tensors per site / (parameters + gradients + optimiser)"
        checks.append(Check(name, ratio(row["tensors"], row["needed"]), MAX_MEMORY))
    for each in found:
        # The first round's end has no best weights yet.
        later = each["tensors"][1:]
        if len(later) > 1:
            name = f"{each['sites']} sites: tensors after the last round / after the second"
            checks.append(Check(name, ratio(later[-1], later[0]), MAX_DRIFT))
    return checks
