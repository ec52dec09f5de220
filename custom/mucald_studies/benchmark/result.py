"""What a benchmark found: tables, ratios beside their limits, and the machine; printed and kept as JSON."""

import dataclasses
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Result:
    """Everything that one benchmark found.

    Args:
        name: the benchmark, and the name of its file.
        settings: what it was asked to measure.
        figures: the numbers, as JSON.
        tables: the same for people, by title.
        checks: ratios with limits.
    """

    name: str
    settings: Mapping[str, Any]
    figures: Any
    tables: Mapping[str, Table]
    checks: Sequence[Check] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        return {
            "schema": SCHEMA,
            "benchmark": self.name,
            "machine": machine(),
            "settings": dict(self.settings),
            "figures": self.figures,
            "checks": [
                {**dataclasses.asdict(check), "value": _finite(check.value), "passed": check.passed}
                for check in self.checks
            ],
        }

    def text(self) -> str:
        """Return tables and checks as aligned text, which is Markdown too."""
        blocks = [f"{title}\n\n{aligned(table)}" for title, table in self.tables.items()]
        if self.checks:
            blocks.append(f"Limits\n\n{aligned(_checks_table(self.checks))}")
        return "\n\n".join(blocks)

    def write(self, folder: Path) -> Path:
        """Write ``<name>.json`` into ``folder`` and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        return path


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _checks_table(checks: Sequence[Check]) -> Table:
    rows = [
        [
            check.name,
            f"{check.value:.3g}",
            f"{'≥' if check.at_least else '≤'} {check.limit:g}",
            "pass" if check.passed else "FAIL",
        ]
        for check in checks
    ]
    return Table(["ratio", "measured", "limit", ""], rows)


def aligned(table: Table) -> str:
    """Return a table as Markdown whose columns are aligned for the console."""
    rows = [[cell if isinstance(cell, str) else cell.text for cell in row] for row in table.rows]
    lines = [list(table.columns), *rows]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(table.columns))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def row(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join([first, *rest])} |"

    return "\n".join([row(lines[0]), row(rule), *map(row, rows)])


def ratio(value: float | None, reference: float | None) -> float:
    """Return ``value`` / ``reference``; NaN where either is missing or the reference is 0."""
    return value / reference if value is not None and reference else math.nan


def machine() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
