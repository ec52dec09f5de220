"""A site's report of one task: an allow-list of plain numbers, which the server checks before use."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mucald.errors import WireError
from mucald.metrics.names import names_of

_ALWAYS = {"site", "task", "source", "round", "n_train", "n_validation", "n_test", "wire", "seconds"}
_TRAIN = {"losses", "gradients", "steps"}
_OPTIONAL = {"validation"}
_NO_NUMBERS = {"best", "per_class"}
_MAX_TEXT = 100


@dataclass(frozen=True)
class ReportField:
    """A field of a method's own in its sites' reports: a number, null, or an object of such.

    Args:
        task: in whose report it comes; of both, results have that of the test.
        needed: whether it has to be there.
    """

    task: Literal["train", "test", "both"]
    needed: bool = True


def check_reports(reports: Any, participant: str, sites: Collection[str]) -> dict[str, Any]:
    """Return what one participant sends, checked to be one report for each of the sites it answers for.

    Raises:
        WireError: it is not.
    """
    if not isinstance(reports, dict) or set(reports) != set(sites):
        raise WireError(f"site '{participant}' did not send one report for each of {', '.join(sites)}")
    return {site: reports[site] for site in sites}


def check_report(
    report: Any,
    site: str,
    round_number: int,
    task: str,
    own: Mapping[str, ReportField],
    loss: str | None = None,
) -> None:
    """Check that a report is complete, of this site and round, and holds nothing but numbers and short names.

    Args:
        report: what came.
        site: whose it must be.
        round_number: of which round.
        task: name of the site's task.
        own: the fields that the job's method adds.
        loss: the training loss that must be there; that of the task by default, empty for none.

    Raises:
        WireError: naming what is wrong.
    """
    if not isinstance(report, dict):
        raise WireError(f"site '{site}' sent no report")
    names = names_of(task)
    kind = "test" if "test" in report else "train"
    of_method = {name for name, field in own.items() if field.task in (kind, "both")}
    needed = _ALWAYS | (_TRAIN if kind == "train" else {"test", names.per_image})
    needed |= {name for name in of_method if own[name].needed}
    if unknown := set(report) - needed - of_method - _OPTIONAL:
        raise WireError(f"the report of site '{site}' has an unknown field '{min(map(str, unknown))}'")
    if missing := needed - set(report):
        raise WireError(f"the report of site '{site}' lacks '{min(missing)}'")
    if report["site"] != site or report["round"] != round_number:
        raise WireError(f"site '{site}' sent a report of another site or round")
    if not isinstance(report["n_train"], int) or report["n_train"] < 1:
        raise WireError(f"the report of site '{site}' has no training images")
    if not _is_number(report["seconds"]):
        raise WireError(f"'seconds' in the report of site '{site}' is not a number")
    _check_part(report, site, "wire", {"up", "down", "training", "seconds", "hidden"})
    if kind == "train":
        _check_part(report, site, "losses", {names.loss if loss is None else loss} - {""})
        _check_part(report, site, "gradients", set())
    else:
        _check_part(report, site, "test", set(names.metrics), unknown=names.metrics)
    if "validation" in report:
        known = {"round", names.primary, "loss", "best"}
        _check_part(report, site, "validation", known, unknown={names.primary})
        if report["validation"]["loss"] < 0:
            raise WireError(f"'validation.loss' in the report of site '{site}' is negative")
    for name in of_method & set(report):
        if isinstance(report[name], dict):
            _check_part(report, site, name, set())
        elif report[name] is not None and not _is_number(report[name]):
            raise WireError(f"'{name}' in the report of site '{site}' is not a number")
    _check_values(report, site)
    if report["task"] != task:
        raise WireError(f"site '{site}' reports on '{report['task']}', but the job gives it '{task}'")


def _check_part(
    report: dict[str, Any], site: str, name: str, needed: set[str], unknown: Collection[str] = ()
) -> None:
    """Check that a part holds what is ``needed``, and numbers; those that may be ``unknown`` may be None."""
    part = report[name]
    if not isinstance(part, dict) or (missing := needed - set(part)):
        what = f"{name}.{min(missing)}" if isinstance(part, dict) else name
        raise WireError(f"the report of site '{site}' lacks '{what}'")
    for key, value in part.items():
        if key not in _NO_NUMBERS and not _is_number(value) and not (value is None and key in unknown):
            raise WireError(f"'{name}.{key}' in the report of site '{site}' is not a number")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_values(value: Any, site: str) -> None:
    if isinstance(value, dict):
        _check_values(list(value), site)
        _check_values(list(value.values()), site)
    elif isinstance(value, list):
        for item in value:
            _check_values(item, site)
    elif isinstance(value, float) and not math.isfinite(value):
        raise WireError(f"the report of site '{site}' holds a number that is not finite")
    elif isinstance(value, str) and len(value) > _MAX_TEXT:
        raise WireError(f"the report of site '{site}' holds a text of {len(value)} characters")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise WireError(f"the report of site '{site}' holds a {type(value).__name__}")
