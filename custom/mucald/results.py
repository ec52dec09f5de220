"""The record of a run: what happened in every round, and ``results.json`` and the table made from it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from mucald import __version__
from mucald.algorithms import algorithm_of
from mucald.config import JobConfig
from mucald.privacy.accountant import account, release_snr, releases_per_sample

SCHEMA = 1
METRICS = ("dice", "iou", "iou_with_background", "precision", "recall", "hd95", "assd")
_DATA = ("task", "source", "n_train", "n_validation", "n_test")
_TEST = ("test", "dice_per_image", "server_contribution")
_KEPT = (*_DATA, *_TEST)
_SECONDS = ("task", "requests", "hidden", "server")


@dataclass
class History:
    """Everything that has been reported so far, as plain JSON, so that a checkpoint can hold it.

    Args:
        rounds: one entry per round: losses and gradient norms per site, discriminators, failures.
        validation: by site, one entry per validated round.
        aggregation: by site, what its validation chose of the states offered to it, one entry per choice.
        reports: by site, what it said of its data and its test.
        wire: bytes up, down and in training, by site.
        seconds: time of each site's tasks, of its requests, of those in which the site worked on, and of the
            server on its behalf.
        images: training images that went through, by site.
        failures: every failure: site, round, reason.
        wall_s: time since the run began, over all its sessions.
        first_step_s: the same up to the first training step that reached the server, if one did.
        round_ends_s: the same up to the end of each round.
    """

    rounds: list[dict[str, Any]] = field(default_factory=list)
    validation: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    aggregation: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    wire: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    wall_s: float = 0.0
    first_step_s: float | None = None
    round_ends_s: list[float] = field(default_factory=list)

    def add_report(self, report: dict[str, Any], server_seconds: float, epochs: int) -> None:
        """Add a site's report of one task to the totals."""
        site = report["site"]
        self.reports.setdefault(site, {}).update({key: report[key] for key in _KEPT if key in report})
        if "validation" in report:
            self.validation.setdefault(site, []).append(report["validation"])
        wire = self.wire.setdefault(site, {"up": 0, "down": 0, "training": 0})
        for key in wire:
            wire[key] += report["wire"][key]
        seconds = self.seconds.setdefault(site, dict.fromkeys(_SECONDS, 0.0))
        seconds["task"] += report["seconds"]
        seconds["requests"] += report["wire"]["seconds"]
        seconds["hidden"] += report["wire"]["hidden"]
        seconds["server"] += server_seconds
        if "losses" in report:
            self.images[site] = self.images.get(site, 0) + epochs * report["n_train"]

    def note_first_step(self, moment: float | None, start: float) -> None:
        """Note when a site's first training step came; ``start`` is when the run began, on the same clock."""
        if moment is not None:
            self.first_step_s = min(moment - start, self.first_step_s or moment - start)

    def end_round(self, wall_s: float) -> None:
        """Note that a round ends, ``wall_s`` after the run began."""
        self.wall_s = wall_s
        self.round_ends_s.append(wall_s)

    def add_choice(self, site: str, completed: int, choice: dict[str, Any]) -> None:
        """Note what a site chose after ``completed`` rounds of what the last of them led to."""
        self.aggregation.setdefault(site, []).append({"round": completed - 1, **choice})

    def last_counted(self, sites: Iterable[str]) -> int:
        """Return how many rounds were complete after the last one in which all ``sites`` counted."""
        counted = [entry["round"] for entry in self.rounds if entry["sites"].keys() >= set(sites)]
        return int(counted[-1]) + 1 if counted else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the history as JSON."""
        return asdict(self)


def build_results(config: JobConfig, run_id: str, history: History) -> dict[str, Any]:
    """Return the content of ``results.json``.

    Args:
        config: the job.
        run_id: names the run.
        history: of the whole run.
    """
    sites = {site: _site_results(config, site, history) for site in sorted(history.reports)}
    tests = [site["test"] for site in sites.values() if site["test"] is not None]
    up, down, training = (
        sum(wire[key] for wire in history.wire.values()) for key in ("up", "down", "training")
    )
    task, requests, hidden, server = (
        sum(seconds[key] for seconds in history.seconds.values()) for key in _SECONDS
    )
    return {
        "schema": SCHEMA,
        "version": __version__,
        "job": config.name,
        "run_id": run_id,
        "seed": config.seed,
        "config": config.to_dict(),
        "sites": sites,
        "mean": {
            "test": {name: _mean(test[name] for test in tests) for name in METRICS},
            "server_contribution": _mean(site["server_contribution"] for site in sites.values()),
        },
        "rounds": history.rounds,
        "failures": history.failures,
        "wire": {
            "bytes_up": up,
            "bytes_down": down,
            "bytes_per_image_step": training / max(sum(history.images.values()), 1),
        },
        "timing": {
            "wall_s": history.wall_s,
            "first_step_s": history.first_step_s,
            "round_ends_s": history.round_ends_s,
            "tasks_s": task,
            "site_s": task - (requests - hidden),
            "server_s": server,
            "transport_s": requests - server,
        },
        "privacy": _privacy(config),
    }


def _site_results(config: JobConfig, site: str, history: History) -> dict[str, Any]:
    report = history.reports[site]
    validation = history.validation.get(site, [])
    best = [entry["round"] for entry in validation if entry["best"]]
    return {
        **{key: report[key] for key in _DATA},
        "validation": validation,
        "best_round": best[-1] if best else None,
        "aggregation": history.aggregation.get(site, []),
        **{key: report.get(key) for key in _TEST},
        "adversarial_scale": config.site(site).adversarial_scale,
        "wire": history.wire[site],
    }


def _privacy(config: JobConfig) -> dict[str, Any]:
    release, noised = config.release, config.release.noised
    supervision = config.crdm.supervision if config.crdm.denoiser and noised else None
    algorithm = algorithm_of(config)
    if algorithm.pooled_at is not None:
        return {
            "data_pooled": True,
            "noised": False,
            "release_mode": None,
            "supervision": None,
            # No latent is sent, for the images themselves have moved.
            "latent_recoverable_by_server": None,
            "front_end_known_to_server": None,
            "t_release": None,
            "snr": None,
            "releases_per_sample": {"train": 0, "validation": 0, "test": 0},
            "proxy_noise_std": None,
            "account": None,
        }
    return {
        "data_pooled": False,
        "noised": noised,
        "release_mode": release.mode,
        "supervision": supervision,
        # With ε in hand the clean latent is one subtraction away.
        "latent_recoverable_by_server": not noised or config.crdm.supervision == "epsilon",
        # Who knows what a front end does to images has a start for inverting what it released.
        "front_end_known_to_server": algorithm.shares_front_end,
        "t_release": release.t if noised else None,
        "snr": release_snr(release),
        "releases_per_sample": releases_per_sample(config),
        "proxy_noise_std": release.proxy_noise_std if config.crdm.encoder != "none" else None,
        # Of one image per case, and of what the job asks; a site's own account stays with it.
        "account": account(config).to_dict(),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


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
