"""The test results as a table for the console."""

from collections.abc import Mapping, Sequence
from typing import Any

from mucald.metrics.names import names_of

_UNKNOWN = "-"


def results_table(results: dict[str, Any]) -> str:
    """Return the test results as a table for the console, one line per site and their mean.

    What the server's part adds has a column where a site knows it.
    """
    mean = results["mean"]
    metrics = tuple(mean["test"])
    header = ("site", "task", "data", "best round", *metrics, "server adds")
    rows = [
        (
            name,
            site["task"],
            site["source"],
            _UNKNOWN if site["best_round"] is None else str(site["best_round"] + 1),
            *(_number(site["test"].get(metric), metric) for metric in metrics),
            _signed(site["server_contribution"]),
        )
        for name, site in results["sites"].items()
        if site["test"] is not None
    ]
    if rows:
        means = (_number(mean["test"][metric], metric) for metric in metrics)
        rows.append(("mean", "", "", "", *means, _signed(mean["server_contribution"])))
    table = [header, *rows]
    if all(row[-1] == _UNKNOWN for row in rows):
        table = [row[:-1] for row in table]
    return _aligned(table)


def crossed(sites: Mapping[str, dict[str, Any]]) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Return the scores of networks by the site that tested them, and the names of all tested networks."""
    found = {name: site["cross_site"] for name, site in sites.items() if site.get("cross_site")}
    return found, sorted({network for scores in found.values() for network in scores})


def cross_site_table(results: dict[str, Any]) -> str:
    """Return the scores of sites' networks (columns) on others' test samples (lines); empty without any."""
    found, networks = crossed(results["sites"])
    rows = []
    for name, scores in found.items():
        metric = names_of(results["sites"][name]["task"]).primary
        rows.append((name, *(_number(scores.get(network), metric) for network in networks)))
    return _aligned([("test of", *networks), *rows]) if rows else ""


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)) for row in table)


def _signed(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:+.3f}"


def _number(value: float | None, metric: str) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:.1f}" if metric in ("hd95", "assd") else f"{value:.3f}"
