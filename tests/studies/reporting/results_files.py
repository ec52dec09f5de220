"""Results files to report on: a real run's, with numbers put in that a test can check by hand."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mucald.config.merge import overridden
from mucald_studies.reporting.runs import Method, Run

DiceBySite = Mapping[str, Sequence[float | None]]


def results_like(
    template: dict[str, Any], job: str, seed: int, dice: DiceBySite, **changes: Any
) -> dict[str, Any]:
    """Return a run's results with other Dice per image; its sites are those of ``dice``.

    Args:
        template: results of a real run.
        job: name of the job.
        seed: of the run.
        dice: per site, Dice of each test image.
        changes: values by dotted key, with ``__`` for the dots.
    """
    content = copy.deepcopy(template)
    content |= {"job": job, "seed": seed, "run_id": f"{job}-20260101-00000{seed}"}
    content["config"] |= {"name": job, "seed": seed, "description": f"The job {job}"}
    first = next(iter(template["sites"].values()))
    content["sites"] = {site: copy.deepcopy(template["sites"].get(site, first)) for site in dice}
    for site, values in dice.items():
        known = [value for value in values if value is not None]
        content["sites"][site] |= {"dice_per_image": list(values), "n_test": len(values)}
        content["sites"][site]["test"]["dice"] = sum(known) / len(known)
    means = [site["test"]["dice"] for site in content["sites"].values()]
    content["mean"]["test"]["dice"] = sum(means) / len(means)
    return overridden(content, {key.replace("__", "."): value for key, value in changes.items()})


def write_results(folder: Path, content: dict[str, Any]) -> Path:
    """Write ``results.json`` where tools/experiments.py would."""
    path = folder / content["job"] / f"seed-{content['seed']}" / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def method(*contents: dict[str, Any]) -> Method:
    """Return runs of one job as a method."""
    return Method(
        contents[0]["job"], {c["seed"]: Run(Path(f"seed-{c['seed']}/results.json"), c) for c in contents}
    )
