"""What a benchmark finds: tables, ratios beside their limits, and the machine."""

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from mucald_studies.reporting.page import Table

SCHEMA = 1
_PACKAGES = ("torch", "nvflare", "monai", "grpcio")


@dataclass(frozen=True)
class Check:
    """A ratio of two figures of the same run, beside its limit.

    Args:
        name: what is divided by what.
        value: the ratio; NaN where a figure is missing.
        limit: what it may be at most, or has to be at least.
        at_least: whether the limit is a lower one.
    """

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the limit is kept."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def cells(self) -> list[str]:
        """The check as a row of a table."""
        limit = f"{'≥' if self.at_least else '≤'} {self.limit:g}"
        return [self.name, f"{self.value:.3g}", limit, "pass" if self.passed else "FAIL"]


@dataclass(frozen=True)
class Result:
    """Everything that one benchmark found.

    Args:
        name: the benchmark, and the name of its file.
        figures: the numbers, as JSON.
        tables: the same for people, by title.
        checks: ratios with limits.
    """

    name: str
    figures: Any
    tables: Mapping[str, Table]
    checks: Sequence[Check] = ()

    def text(self) -> str:
        """Return tables and checks as aligned text, which is Markdown too."""
        limits = Table(["ratio", "measured", "limit", ""], [check.cells for check in self.checks])
        tables = {**self.tables, **({"Limits": limits} if self.checks else {})}
        return "\n\n".join(f"{title}\n\n{aligned(table)}" for title, table in tables.items())

    def write(self, folder: Path, settings: Mapping[str, Any]) -> Path:
        """Write ``<name>.json`` into ``folder``, with what was asked to be measured, and return its path."""
        checks = [
            {**asdict(c), "value": c.value if math.isfinite(c.value) else None, "passed": c.passed}
            for c in self.checks
        ]
        content = {"schema": SCHEMA, "benchmark": self.name, "machine": machine()}
        content |= {"settings": settings, "figures": self.figures, "checks": checks}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        return path


def aligned(table: Table) -> str:
    """Return a table as Markdown whose columns are aligned for the console."""
    lines = [list(table.columns), *([str(cell) for cell in row] for row in table.rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    rows = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def ratio(value: float | None, reference: float | None) -> float:
    """Return ``value`` / ``reference``; NaN where either is missing or the reference is 0."""
    return value / reference if value is not None and reference else math.nan


def machine() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "system": platform.platform(),
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }
