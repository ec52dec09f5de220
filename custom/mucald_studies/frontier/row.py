"""What a frontier says of one point: what the run was good for, and the strongest attack of each kind."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mucald_studies.attacks.harness.result import AttackResult
from mucald_studies.frontier.attacking import Attacked
from mucald_studies.frontier.points import Changes, Point
from mucald_studies.reporting.figures import pareto
from mucald_studies.reporting.runs import Run

GAIN, MASKS, MEMBERSHIP = "psnr_gain", "dice", "auc"
_IMAGES = ("n_train", "n_validation", "n_test")


@dataclass(frozen=True)
class Strongest:
    """The attack and site with the highest value of a metric.

    Args:
        attack, site: which, and on whom.
        value, low, high: of the metric, with its 95 % interval.
        blind: the same metric for who makes no use of the messages.
        psnr: in dB, of a reconstruction.
        flat: whether its training ended before the budget did; of an attack that trains nothing, too.
    """

    attack: str
    site: str
    value: float
    low: float
    high: float
    blind: float
    psnr: float | None
    flat: bool


@dataclass(frozen=True)
class Row:
    """One point of the frontier.

    Args:
        point: its name.
        changes: what it changes in the job.
        dice: mean test Dice over all sites, None where no class counts.
        kb_per_image: kB of messages, up and down, per image of any split over the whole run.
        reconstruction: strongest by its gain over the mean image in dB.
        masks: strongest by Dice of the masks inferred.
        membership: strongest by AUC.
        left_out: by attack and site, why an attack could not be made.
    """

    point: str
    changes: Changes
    dice: float | None
    kb_per_image: float
    reconstruction: Strongest | None
    masks: Strongest | None
    membership: Strongest | None
    left_out: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON."""
        return asdict(self)


def row_of(point: Point, run: Run, attacked: Attacked, max_steps: int) -> Row:
    """Return a point's row of its finished run and its attacks, whose trainings ended by ``max_steps``."""
    images = sum(site[name] for site in run.content["sites"].values() for name in _IMAGES)
    wire, results = run.content["wire"], attacked.results.values()
    return Row(
        point.name,
        point.changes,
        run.content["mean"]["test"]["dice"],
        (wire["bytes_up"] + wire["bytes_down"]) / 1e3 / images,
        _strongest(results, GAIN, max_steps),
        _strongest(results, MASKS, max_steps),
        _strongest(results, MEMBERSHIP, max_steps),
        {" on ".join(job): reason for job, reason in attacked.left_out.items()},
    )


def _strongest(results: Iterable[AttackResult], metric: str, max_steps: int) -> Strongest | None:
    having = [result for result in results if metric in result.metrics]
    if not having:
        return None
    best = max(having, key=lambda result: result.metrics[metric].value)
    (anchor,) = best.anchors.values()
    return Strongest(
        best.attack,
        best.site,
        **asdict(best.metrics[metric]),
        blind=anchor[metric].value if metric in anchor else 0.0,
        psnr=best.metrics["psnr"].value if "psnr" in best.metrics else None,
        flat=not best.curve or best.curve[-1][0] < max_steps,
    )


def front_of(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other betters in Dice without a higher gain of the attacker, by rising gain.

    Rows without Dice or without a reconstruction are left out.
    """
    known = [(r, (r.reconstruction.value, r.dice)) for r in rows if r.dice is not None and r.reconstruction]
    return [known[place][0] for place in pareto([point for _, point in known])]
