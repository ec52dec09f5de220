"""Bytes per image and step against Dice: the same job with other payload types, direction by direction."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from mucald.errors import TrainingError
from mucald_studies.benchmark.jobs import variant_content
from mucald_studies.benchmark.result import Check, Result, ratio
from mucald_studies.reporting.experiments import plan_job
from mucald_studies.reporting.page import Table
from mucald_studies.reporting.runner import run_all

FLOAT = "float32"
AS_SHIPPED = "as the job has it"
MAX_BYTES = 1 / 100
MAX_BYTES_ONCE = 1 / 200
MAX_DICE_LOST = 0.005
PAPER_CHANNELS = 32
PAPER_TENSORS = 4
"""Latent, features and their gradients; a float each. At 256 x 256 pixels that is 33.6 MB."""
_FLOAT_BYTES = 4
_KILO = 1e3


@dataclass(frozen=True)
class CodecPlan:
    """What to measure.

    Args:
        job: the job folder.
        types: payload types to compare with float32, in all directions at once.
        single: types to put into one direction at a time, the others staying float32.
        seeds: seeds of every run.
        out: the folder of all runs; those that are finished are not made again.
        changes: further values of ``mucald.json`` by dotted key.
        simulator: run in FLARE's simulator rather than in one process.
        threads: sites that run at once; None for what suits the carrier.
    """

    job: Path
    types: Sequence[str]
    single: Sequence[str]
    seeds: Sequence[int]
    out: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    simulator: bool = False
    threads: int | None = None


def choices(plan: CodecPlan) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield a name and the payload type of every direction for each comparison, float32 first."""
    shipped = variant_content(plan.job, plan.changes)["wire"]
    directions = [name for name, value in shipped.items() if isinstance(value, str)]
    yield FLOAT, dict.fromkeys(directions, FLOAT)
    yield AS_SHIPPED, {name: shipped[name] for name in directions}
    for name in plan.types:
        yield f"all {name}", dict.fromkeys(directions, name)
    for name in plan.single:
        for direction in directions:
            yield f"{direction} {name}", dict.fromkeys(directions, FLOAT) | {direction: name}


def paper_bytes(image_size: int) -> int:
    """Return the bytes per image and step at the paper's cut: 32 channels in full resolution, four times."""
    return PAPER_TENSORS * PAPER_CHANNELS * image_size**2 * _FLOAT_BYTES


def measure(plan: CodecPlan) -> dict[str, list[dict[str, Any]]]:
    """Make all runs, or go on with them, and return their results by choice, one for each seed.

    Raises:
        ConfigError: the job or a payload type is wrong.
        TrainingError: a run failed; the console says why.
    """
    planned = {}
    for name, types in choices(plan):
        changes = {**plan.changes, **{f"wire.{direction}": value for direction, value in types.items()}}
        # The folder of a job's runs carries its name, which the choice must not share.
        out = plan.out / name.replace(" ", "_")
        planned[name] = plan_job(plan.job, plan.seeds, changes, out, None)
    experiments = [experiment for of_choice in planned.values() for experiment in of_choice]
    if run_all(experiments, plan.simulator, plan.threads):
        raise TrainingError(f"not all runs in {plan.out} were made; the same command goes on with them")
    found = {}
    for name, of_choice in planned.items():
        runs = [experiment.finished() for experiment in of_choice]
        found[name] = [run.content for run in runs if run is not None]
    return found


def report(plan: CodecPlan, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Result:
    """Return the table of bytes and Dice, and the shipped choice's ratios beside their limits."""
    size = variant_content(plan.job, plan.changes)["data"]["image_size"]
    rows = {name: _row(runs, size) for name, runs in found.items()}
    reference = rows[FLOAT]["dice"]
    cells = [
        [
            name,
            f"{row['bytes'] / _KILO:.1f}",
            f"1/{1 / row['paper']:.0f}",
            f"{row['dice']:.4f}",
            f"{row['dice'] - reference:+.4f}",
            f"{row['whole'] / _KILO:.1f}",
        ]
        for name, row in rows.items()
    ]
    header = ["payload", "kB per image and step", "of the paper's", "mean Dice", "to float32", "kB, all"]
    shipped = rows[AS_SHIPPED]
    checks = [
        Check("as the job has it: bytes per image and step / the paper's", shipped["paper"], MAX_BYTES),
        Check("as the job has it: mean Dice lost to float32", reference - shipped["dice"], MAX_DICE_LOST),
    ]
    if variant_content(plan.job, plan.changes)["release"]["mode"] == "once":
        value = ratio(shipped["whole"], paper_bytes(size))
        checks.append(
            Check("single release: all bytes per image and epoch / the paper's", value, MAX_BYTES_ONCE)
        )
    settings = asdict(plan) | {"job": plan.job.name, "out": str(plan.out)}
    title = f"{size} px, seeds {list(plan.seeds)}; last: all bytes of a run per training image and epoch"
    return Result("codec", settings, rows, {title: Table(header, cells)}, checks)


def _row(runs: Sequence[Mapping[str, Any]], image_size: int) -> dict[str, float]:
    per_step = fmean(run["wire"]["bytes_per_image_step"] for run in runs)
    return {
        "bytes": per_step,
        "paper": ratio(per_step, paper_bytes(image_size)),
        "whole": fmean(_whole(run) for run in runs),
        "dice": fmean(run["mean"]["test"]["dice"] for run in runs),
    }


def _whole(run: Mapping[str, Any]) -> float:
    """Return all bytes of a run, validation and test included, per training image and epoch."""
    training = run["config"]["training"]
    images = sum(site["n_train"] for site in run["sites"].values())
    passes = images * training["rounds"] * training["local_epochs"]
    return (run["wire"]["bytes_up"] + run["wire"]["bytes_down"]) / passes
