"""How the server bears many sites: latency, memory, aggregation, and how they grow."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mucald.errors import TrainingError
from mucald_studies.benchmark.result import Check, Result, ratio
from mucald_studies.jobs import changed
from mucald_studies.reporting.page import Table

SMALL, LARGE = 5, 50
"""Numbers of sites between which growth is judged."""
MAX_GROWTH = 1.1
"""Of latency over that of the work, which is at most proportional; a tenth is left to noise."""
MAX_MEMORY = 1.2
MAX_DRIFT = 1.01
_TABLES: Mapping[str, Mapping[str, tuple[str, float, int]]] = {
    "latency of a training step (synthetic sites: they compute nothing)": {
        "p50 [ms]": ("p50", 1e3, 1),
        "p95 [ms]": ("p95", 1e3, 1),
        "steps/s": ("steps_per_s", 1, 1),
        "cores used": ("cores", 1, 1),
        "work/cores [ms]": ("work", 1e3, 1),
    },
    "server memory per site, MB": {
        "parameters, gradients, optimiser": ("needed", 1e-6, 2),
        "all tensors": ("tensors", 1e-6, 2),
        "resident, all sites": ("resident", 1e-6, 2),
    },
    "between rounds, ms": {name: (name, 1e3, 1) for name in ("aggregation", "discriminators", "checkpoint")},
}
"""By title: the columns, each with its figure, factor and digits."""
_LAWS = {
    "p50": "p50 of a step",
    "p95": "p95 of a step",
    "work": "work of one step of every site",
    "aggregation": "aggregation",
    "tensors": "tensors per site",
}


def measure(
    job: Path, changes: Mapping[str, Any], counts: Sequence[int], rounds: int = 3, steps: int = 10
) -> list[dict[str, Any]]:
    """Return what :func:`mucald_studies.benchmark.synthetic.measure` found for each number of sites.

    The job's sites' tasks are taken in turn; of the rounds the first is not timed.

    Raises:
        ConfigError: the job is wrong.
        TrainingError: a process failed.
    """
    content = changed(job, changes).to_dict()
    found = []
    for count in counts:
        question = {"content": content, "count": count, "rounds": rounds, "steps": steps}
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
        **{part: found["between"].get(part, 0.0) for part in ("aggregation", "discriminators", "checkpoint")},
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


def report(found: Sequence[Mapping[str, Any]]) -> Result:
    """Return tables, the fitted laws, and the ratios beside their limits."""
    rows = [summary(each) for each in found]
    growth = {name: exponent([row["sites"] for row in rows], [row[name] for row in rows]) for name in _LAWS}
    tables = {
        title: Table(
            ["sites", *columns],
            [
                [str(row["sites"])]
                + [f"{factor * row[name]:.{digits}f}" for name, factor, digits in columns.values()]
                for row in rows
            ],
        )
        for title, columns in _TABLES.items()
    }
    laws = [[_LAWS[name], f"{power:.2f}"] for name, power in growth.items()]
    tables["growth: value ∝ sites^b"] = Table(["value", "b"], laws)
    figures = {
        "by_sites": rows,
        "tensors": [each["tensors"] for each in found],
        "growth": {name: power if math.isfinite(power) else None for name, power in growth.items()},
    }
    return Result("scale", figures, tables, _checks(rows, found))


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
