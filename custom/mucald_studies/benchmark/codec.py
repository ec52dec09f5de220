"""Bytes per image and step against Dice: the same job with other payload types, direction by direction."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mucald.errors import TrainingError
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

Results = Mapping[str, Any]


def choices(
    shipped: Mapping[str, Any], types: Sequence[str], single: Sequence[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield a name and the payload type of every direction for each comparison, float32 first.

    Beside the job's own section ``wire`` these are ``types`` for all directions at once, and ``single`` ones
    for one direction at a time, the others staying float32.
    """
    own = {name: value for name, value in shipped.items() if isinstance(value, str)}
    yield FLOAT, dict.fromkeys(own, FLOAT)
    yield AS_SHIPPED, own
    yield from ((f"all {name}", dict.fromkeys(own, name)) for name in types)
    for name in single:
        for direction in own:
            yield f"{direction} {name}", dict.fromkeys(own, FLOAT) | {direction: name}


def paper_bytes(image_size: int) -> int:
    """Return the bytes per image and step at the paper's cut: 32 channels in full resolution, four times."""
    return PAPER_TENSORS * PAPER_CHANNELS * image_size**2 * _FLOAT_BYTES


def measure(
    job: Path,
    changes: Mapping[str, Any],
    comparisons: Mapping[str, Mapping[str, str]],
    seeds: Sequence[int],
    out: Path,
    simulator: bool = False,
    threads: int | None = None,
) -> dict[str, list[Results]]:
    """Make all runs of some :func:`choices`, or go on with them, and return their results, one for each seed.

    Other arguments are those of :func:`.plan_job` and :func:`.run_all`.

    Raises:
        ConfigError: the job or a payload type is wrong.
        TrainingError: a run failed; the console says why.
    """
    planned = {}
    for name, types in comparisons.items():
        values = {**changes, **{f"wire.{direction}": value for direction, value in types.items()}}
        # The folder of a job's runs carries its name, which the choice must not share.
        planned[name] = plan_job(job, seeds, values, out / name.replace(" ", "_"), None)
    experiments = [experiment for of_choice in planned.values() for experiment in of_choice]
    if run_all(experiments, simulator, threads):
        raise TrainingError(f"not all runs in {out} were made; the same command goes on with them")
    return {
        name: [run.content for each in of_choice if (run := each.finished())]
        for name, of_choice in planned.items()
    }


def report(found: Mapping[str, Sequence[Results]]) -> Result:
    """Return the table of bytes and Dice, and the shipped choice's ratios beside their limits."""
    config = found[AS_SHIPPED][0]["config"]
    size = config["data"]["image_size"]
    rows = {name: _row(runs, size) for name, runs in found.items()}
    shipped, reference = rows[AS_SHIPPED], rows[FLOAT]["dice"]
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
    checks = [
        Check("as the job has it: bytes per image and step / the paper's", shipped["paper"], MAX_BYTES),
        Check("as the job has it: mean Dice lost to float32", reference - shipped["dice"], MAX_DICE_LOST),
    ]
    if config["release"]["mode"] == "once":
        name, value = (
            "all bytes per image and epoch / the paper's",
            ratio(shipped["whole"], paper_bytes(size)),
        )
        checks.append(Check(f"single release: {name}", value, MAX_BYTES_ONCE))
    title = f"{size} px, {len(found[FLOAT])} seeds; last: all bytes of a run per training image and epoch"
    return Result("codec", rows, {title: Table(header, cells)}, checks)


def _row(runs: Sequence[Results], image_size: int) -> dict[str, float]:
    per_step = fmean(run["wire"]["bytes_per_image_step"] for run in runs)
    return {
        "bytes": per_step,
        "paper": ratio(per_step, paper_bytes(image_size)),
        "whole": fmean(_whole(run) for run in runs),
        "dice": fmean(run["mean"]["test"]["dice"] for run in runs),
    }


def _whole(run: Results) -> float:
    """Return all bytes of a run, validation and test included, per training image and epoch."""
    training = run["config"]["training"]
    images = sum(site["n_train"] for site in run["sites"].values())
    passes = images * training["rounds"] * training["local_epochs"]
    return (run["wire"]["bytes_up"] + run["wire"]["bytes_down"]) / passes
