"""What an attack came to: one schema for all, ready for JSON."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mucald import __version__
from mucald.config.schema import parse, read_json
from mucald.errors import AttackError, ConfigError
from mucald_studies.text import columns

SCHEMA = 1


@dataclass(frozen=True)
class Estimate:
    """A mean over images and its 95 % bootstrap interval over images."""

    value: float
    low: float
    high: float


Metrics = dict[str, Estimate]


@dataclass(frozen=True)
class AttackResult:
    """One attack on one site.

    Args:
        attack: its name.
        job, run_id: what was attacked.
        site: whose messages; ``all`` for an attack that sets sites side by side.
        knowledge: what the attacker was given beside the server's own networks and messages.
        target: whose images were to be found out, ``train`` or ``test``, or ``train and others``.
        n: images that were scored.
        seed: the attacker's.
        metrics: how well it did.
        anchors: the same metrics for who makes no use of the messages.
        curve: (step, loss on the attacker's held-out images) of its training; empty if nothing was trained.
        refused: metrics that so few images cannot give, each with the reason.
        seconds: how long it took.
    """

    attack: str
    job: str
    run_id: str
    site: str
    knowledge: tuple[str, ...]
    target: str
    n: int
    seed: int
    metrics: Metrics
    anchors: dict[str, Metrics]
    curve: tuple[tuple[float, ...], ...] = ()
    refused: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def write_results(path: Path, results: Sequence[AttackResult]) -> None:
    """Write results as one JSON file."""
    content = {"schema": SCHEMA, "version": __version__, "attacks": [r.to_dict() for r in results]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_results(path: Path) -> list[AttackResult]:
    """Read what :func:`write_results` wrote.

    Raises:
        AttackError: the file is missing, damaged, or of another schema.
    """
    try:
        content = read_json(path)
        if content.get("schema") != SCHEMA:
            raise ConfigError(f"schema {content.get('schema')}, this version reads {SCHEMA}")
        return [parse(AttackResult, entry) for entry in content["attacks"]]
    except ConfigError as error:
        raise AttackError(f"{path}: {error}") from None


def results_table(results: Sequence[AttackResult]) -> str:
    """Return results as a table for the console: every metric with its interval, anchors in brackets."""
    rows = [("site", "attack", "target", "n", "metric", "value", "95 % interval", "anchor")]
    for result in results:
        head = (result.site, result.attack, result.target, str(result.n))
        for name, estimate in result.metrics.items():
            anchors = [
                f"{anchor} {_number(values[name].value)}"
                for anchor, values in result.anchors.items()
                if name in values
            ]
            interval = f"{_number(estimate.low)} … {_number(estimate.high)}"
            rows.append((*head, name, _number(estimate.value), interval, ", ".join(anchors)))
        rows += [(*head, name, "refused", reason, "") for name, reason in result.refused.items()]
    return columns(rows)


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}"
