"""What ``mucald prepare`` does with volumes: their plan, and whether a job says what they need."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from mucald.command_line import Found
from mucald.config.common import VolumePlan
from mucald.config.job import CONFIG_FILE, JobConfig
from mucald.config.schema import read_json
from mucald.data.site_file import SiteFile
from mucald.data.volumes.planning import lacking, plan_of, unlike
from mucald.data.volumes.survey import VolumeSurvey, survey_volumes
from mucald.errors import DataError
from mucald.methods.jobs import app_of, load_job
from mucald.state.files import write_atomically

DIVISOR = 8
_PLANS = "data.volumes.plans"


def plan_volumes(site_file: SiteFile, job: Path | None, divisor: int | None, propose: bool = False) -> Found:
    """Print a site's plan and what a job must say; the status is 1 if one is given that does not.

    Args:
        site_file: the site's.
        job: the folder of a job, if any.
        divisor: what sides of a patch are multiples of; by default what the job's network needs.
        propose: whether the plan is written into the job.

    Raises:
        DataError: a volume cannot be read; `mucald check` lists all.
        ConfigError: the job cannot be read.
    """
    found = survey_volumes(site_file)
    if found.faults:
        more = f" (and {len(found.faults) - 1} more: mucald check)" if len(found.faults) > 1 else ""
        raise DataError(f"{found.faults[0]}{more}", public="the site's volumes have faults")
    config = None if job is None else load_job(job)[0]
    divisor = divisor or (DIVISOR if config is None else _divisor(config))
    plan = plan_of(found, divisor)
    for table in found.tables():
        print(f"{table}\n")
    said = {found.task.name: _said(plan)}
    print("By these volumes the job would say")
    print(f'  "{_PLANS}": {json.dumps(said)}')
    print("Sites with one task agree on one plan, such as the median of theirs; it is the same for all.")
    value: dict[str, Any] = {"task": found.task.name, "plan": _said(plan), "divisible_by": divisor}
    if job is None or config is None:
        return Found(value)
    if propose:
        config = _proposed(job, said)
    return _compared(found, config, divisor, value)


def _proposed(job: Path, plan: dict[str, Any]) -> JobConfig:
    """Write a task's plan into a job, beside those of other tasks, and return the job's configuration."""
    path = job / app_of(job)[0] / "config" / CONFIG_FILE
    content, plans = read_json(path), load_job(job)[0].to_dict()["data"]["volumes"]["plans"]
    if "base" in content:
        changes = content.setdefault("set", {})
        # As a dotted key it would stand beside the section that holds it.
        inner = changes.get("data", {}).get("volumes")
        if isinstance(inner, dict):
            inner["plans"] = plans | plan
        else:
            changes[_PLANS] = plans | plan
    else:
        content.setdefault("data", {}).setdefault("volumes", {})["plans"] = plans | plan
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    print(f"written into {path}; the other sites of the task compare it with theirs")
    return load_job(job)[0]


def _compared(found: VolumeSurvey, config: JobConfig, divisor: int, value: dict[str, Any]) -> Found:
    job = config.data.volumes.plan(found.task.name)
    faults, remarks = lacking(found, job, divisor), unlike(found, job)
    for words in faults:
        print(f"fault: {words}")
    for words in remarks:
        print(f"remark: {words}")
    if not faults and not remarks:
        print(f"the job '{config.name}' fits these volumes")
    return Found(value | {"faults": faults, "remarks": remarks}, status=1 if faults else 0)


def _said(plan: VolumePlan) -> dict[str, Any]:
    return {name: list(value) for name, value in dataclasses.asdict(plan).items() if value}


def _divisor(config: JobConfig) -> int:
    """Every level of a network but the first halves each side."""
    features = getattr(getattr(config, "network", None), "features", None)
    return DIVISOR if features is None else 2 ** (len(features) - 1)
