"""A site's report of one task: an allow-list of plain numbers, which the server checks before use."""

import math
from collections.abc import Collection
from typing import Any

from mucald.errors import WireError
from mucald.results.results import METRICS

_ALWAYS = {"site", "task", "source", "round", "n_train", "n_validation", "n_test", "wire", "seconds"}
_TRAIN = {"losses", "gradients", "steps"}
_TEST = {"test", "dice_per_image", "server_contribution"}
_OPTIONAL = {"validation", "pretraining"}
_NO_NUMBERS = {"best", "per_class"}
_MAX_TEXT = 100


def check_reports(reports: Any, participant: str, sites: Collection[str]) -> dict[str, Any]:
    """Return what one participant sends, checked to be one report for each of the sites it answers for.

    Raises:
        WireError: it is not.
    """
    if not isinstance(reports, dict) or set(reports) != set(sites):
        raise WireError(f"site '{participant}' did not send one report for each of {', '.join(sites)}")
    return {site: reports[site] for site in sites}


def check_report(report: Any, site: str, round_number: int) -> None:
    """Check that a report is complete, of this site and round, and holds nothing but numbers and short names.

    Raises:
        WireError: naming what is wrong.
    """
    if not isinstance(report, dict):
        raise WireError(f"site '{site}' sent no report")
    kind = _TEST if "test" in report else _TRAIN
    if unknown := set(report) - _ALWAYS - kind - _OPTIONAL:
        raise WireError(f"the report of site '{site}' has an unknown field '{min(map(str, unknown))}'")
    if missing := (_ALWAYS | kind) - set(report):
        raise WireError(f"the report of site '{site}' lacks '{min(missing)}'")
    if report["site"] != site or report["round"] != round_number:
        raise WireError(f"site '{site}' sent a report of another site or round")
    if not isinstance(report["n_train"], int) or report["n_train"] < 1:
        raise WireError(f"the report of site '{site}' has no training images")
    if not _is_number(report["seconds"]):
        raise WireError(f"'seconds' in the report of site '{site}' is not a number")
    _check_part(report, site, "wire", {"up", "down", "training", "seconds", "hidden"})
    if kind is _TRAIN:
        _check_part(report, site, "losses", {"segmentation"})
        _check_part(report, site, "gradients", set())
    else:
        _check_part(report, site, "test", set(METRICS), unknown=set(METRICS))
    if "pretraining" in report:
        _check_part(report, site, "pretraining", set())
    if "validation" in report:
        _check_part(report, site, "validation", {"round", "dice", "loss", "best"}, unknown={"dice"})
        if report["validation"]["loss"] < 0:
            raise WireError(f"'validation.loss' in the report of site '{site}' is negative")
    _check_values(report, site)


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
