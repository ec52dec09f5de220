"""Which methods may be set side by side: only those with the same data and the same budget."""

from collections.abc import Sequence
from typing import Any

from mucald.errors import ReportError
from mucald_studies.reporting.runs import Method, Run

BUDGET = (
    "data.image_size",
    "training.rounds",
    "training.local_epochs",
    "training.batch_size",
    "release.pretraining_epochs",
)
DATA = ("task", "source", "n_train", "n_validation", "n_test")


def choose_reference(methods: Sequence[Method], wanted: str | None, default: str = "mucald") -> Method:
    """Return the method that the others are compared with.

    Args:
        methods: all of them.
        wanted: its label, or its job's name; without one, ``default`` if there, or else the first method.

    Raises:
        ReportError: no method is called so, or several configurations of that job are.
    """
    name = default if wanted is None else wanted
    found = [method for method in methods if method.label == name]
    found = found or [method for method in methods if method.first.job == name]
    if wanted is None:
        return (found or list(methods))[0]
    if len(found) != 1:
        labels = ", ".join(f"'{method.label}'" for method in found or methods)
        raise ReportError(
            f"{'several' if found else 'no'} methods are called '{wanted}'; choose one of {labels}"
        )
    return found[0]


def find_alone(methods: Sequence[Method], default: str = "baseline_local") -> Method | None:
    """Return the method in which each site trains alone; of several ``default`` if there, or else the first.

    None if no method's aggregation rule is ``local``.
    """
    found = [method for method in methods if method.first.settings.get("aggregation.rule") == "local"]
    named = [method for method in found if method.label == default]
    return next(iter(named + found), None)


def differences(methods: Sequence[Method], reference: Method) -> dict[str, list[str]]:
    """Return for each method, by label, in which data or budget it differs from the reference.

    Methods that do not differ are absent.
    """
    found = {
        method.label: [
            reason for run in method.runs.values() for reason in _differences(run, reference.first)
        ]
        for method in methods
    }
    return {label: list(dict.fromkeys(reasons)) for label, reasons in found.items() if reasons}


def require_comparable(methods: Sequence[Method], reference: Method) -> None:
    """Check that all methods had the reference's data and budget.

    Raises:
        ReportError: naming every method that had not, and in what.
    """
    if odd := differences(methods, reference):
        lines = [f"  {label}: {'; '.join(reasons)}" for label, reasons in odd.items()]
        raise ReportError(
            f"these runs cannot be compared with {reference.label}:\n" + "\n".join(lines) + "\n"
            "run them on the same data with the same budget, or give --allow-different-budgets, "
            "and they are marked in the report"
        )


def _differences(run: Run, reference: Run) -> list[str]:
    own, other = run.settings, reference.settings
    reasons = [
        _reason(key.split(".")[1], own.get(key), other.get(key))
        for key in BUDGET
        if own.get(key) != other.get(key)
    ]
    for site in sorted(run.sites.keys() | reference.sites.keys()):
        reasons += _site_differences(site, run.sites.get(site), reference.sites.get(site))
    return reasons


def _site_differences(site: str, own: dict[str, Any] | None, other: dict[str, Any] | None) -> list[str]:
    if own is None or other is None:
        return [f"site '{site}' tested in one of them only"]
    return [
        _reason(f"{key} of site '{site}'", own.get(key), other.get(key))
        for key in DATA
        if own.get(key) != other.get(key)
    ]


def _reason(what: str, own: Any, other: Any) -> str:
    return f"{what} {own} instead of {other}"
