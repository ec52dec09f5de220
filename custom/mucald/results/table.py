"""The test results as a table for the console."""

from typing import Any

from mucald.results.results import METRICS


def results_table(results: dict[str, Any]) -> str:
    """Return the test results as a table for the console, one line per site and their mean."""
    header = ("site", "task", "data", "best round", *METRICS, "server adds")
    rows = [
        (
            name,
            site["task"],
            site["source"],
            "-" if site["best_round"] is None else str(site["best_round"] + 1),
            *(_number(site["test"][metric], metric) for metric in METRICS),
            _signed(site["server_contribution"]),
        )
        for name, site in results["sites"].items()
        if site["test"] is not None
    ]
    if rows:
        means = (_number(results["mean"]["test"][metric], metric) for metric in METRICS)
        rows.append(("mean", "", "", "", *means, _signed(results["mean"]["server_contribution"])))
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (header, *rows)
    ]
    return "\n".join(lines)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _number(value: float | None, metric: str) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if metric in ("hd95", "assd") else f"{value:.3f}"
