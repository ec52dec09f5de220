"""``results.json``: what a run leaves, made from its history."""

import resource
from collections.abc import Iterable
from typing import Any

from mucald import __version__
from mucald.config.job import JobConfig
from mucald.metrics.names import names_of
from mucald.results.history import DATA, SECONDS, History

SCHEMA = 2
"""Of the file; readers refuse another. Since 2 ``privacy`` is the account of what the job discloses."""


def build_results(
    config: JobConfig, run_id: str, history: History, privacy: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of ``results.json``.

    Args:
        config: the job.
        run_id: names the run.
        history: of the whole run.
        privacy: the account of the job's disclosures, of one image per case.
    """
    sites = {site: _site_results(site, history) for site in sorted(history.reports)}
    tests = [site["test"] for site in sites.values() if site["test"] is not None]
    up, down, training = (
        sum(wire[key] for wire in history.wire.values()) for key in ("up", "down", "training")
    )
    task, requests, hidden, server = (
        sum(seconds[key] for seconds in history.seconds.values()) for key in SECONDS
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
            "test": {name: _mean(test.get(name) for test in tests) for name in _metrics(config)},
            "server_contribution": _mean(site["server_contribution"] for site in sites.values()),
        },
        "rounds": history.rounds,
        "joining": _joining(config, history),
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
            # Of this process: the server's own, or in one process that of all participants.
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        },
        "privacy": privacy,
    }


def _joining(config: JobConfig, history: History) -> list[dict[str, Any]]:
    """Return, for every site that joined later, the others' validation scores before and at the run's end.

    A site that was added to those of an earlier run joined after 0 rounds of this one.
    """
    found, added = [], history.added()
    for site, of_site in config.sites.items():
        joined = of_site.joins_at_round
        if not (joined or site in added) or site not in history.reports:
            continue
        earlier = config.joined(sorted(history.validation), max(joined - 1, 0))
        others = {}
        for other in earlier if joined else [name for name in earlier if name not in added]:
            name = names_of(config.site(other).task).primary
            scores = {entry["round"]: entry[name] for entry in history.validation[other]}
            others[other] = {"before": scores.get(joined - 1), "after": scores[max(scores)]} if scores else {}
        found.append({"site": site, "round": joined, "others": others})
    return found


def _metrics(config: JobConfig) -> list[str]:
    """Return the names of the scores that the job's tasks have, each once."""
    names = [name for site in config.sites.values() for name in names_of(site.task).metrics]
    return list(dict.fromkeys(names))


def _site_results(site: str, history: History) -> dict[str, Any]:
    report = history.reports[site]
    # What a site that was never tested cannot tell, and what only some methods have.
    tested = {"test": None, names_of(report["task"]).per_image: None, "server_contribution": None}
    validation = history.validation.get(site, [])
    best = [entry["round"] for entry in validation if entry["best"]]
    return {
        **{key: report[key] for key in DATA},
        "validation": validation,
        "best_round": best[-1] if best else None,
        "aggregation": history.aggregation.get(site, []),
        **tested | {key: value for key, value in report.items() if key not in DATA},
        "wire": history.wire[site],
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
