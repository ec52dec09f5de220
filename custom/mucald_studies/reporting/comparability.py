"""Which methods may be set side by side: only those with the same data and the same budget."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mucald.config.common import VolumeConfig
from mucald.config.schema import parse
from mucald.errors import ReportError
from mucald.tasks import get_task
from mucald_studies.reporting.runs import Method, Run

PASSES = "passes over the images"
BUDGET = ("data.image_size", "training.batch_size")
"""Settings that methods must have alike, beside :data:`PASSES`."""
DATA = ("task", "source", "n_train", "n_validation", "n_test")


def budget(run: Run) -> dict[str, Any]:
    """Return what a run may spend: how often a site goes over its images, however it does, and on what."""
    settings = run.settings
    # A method without a key spends nothing of that kind.
    rounds, epochs, alone, at_home = (
        settings.get(key, 0)
        for key in (
            "training.rounds",
            "training.local_epochs",
            "release.pretraining_epochs",
            "handover.epochs",
        )
    )
    tasks = sorted({entry["task"] for entry in run.sites.values()})
    volumes = {task: sample_size(run, task) for task in tasks if get_task(task).input == "volume"}
    found = {key: settings.get(key) for key in BUDGET} | {PASSES: rounds * epochs + alone + at_home}
    return found | ({"size of volumes": volumes} if volumes else {})


def sample_size(run: Run, task: str) -> list[int]:
    """Return the sides of the patches that a network takes of a task's volumes, or of volumes taken whole."""
    volumes = parse(VolumeConfig, run.content["config"]["data"]["volumes"])
    return list(volumes.sample_size(task, whole=get_task(task).target == "class"))


def choose_reference(methods: Sequence[Method], wanted: str | None, default: str = "mucald") -> Method:
    """Return the method that the others are compared with: the one with that label, or of that job.

    If none is wanted it is ``default`` if there, or else the first method.

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

    None if there is no such method.
    """
    found = [method for method in methods if method.first.alone]
    named = [method for method in found if method.label == default]
    return next(iter(named + found), None)


def differences(
    methods: Sequence[Method], reference: Method, with_budget: bool = True
) -> dict[str, list[str]]:
    """Return for each method, by label, in which data or budget it differs from the reference.

    Methods that do not differ are absent.

    Args:
        methods: all of them.
        reference: the one that they are set beside.
        with_budget: whether the budget counts, or the data alone.
    """
    found: dict[str, dict[str, None]] = {}
    for method in methods:
        for run in method.runs.values():
            for reason in _differences(run, reference.first, with_budget):
                found.setdefault(method.label, {})[reason] = None
    return {label: list(reasons) for label, reasons in found.items()}


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


def _differences(run: Run, reference: Run, with_budget: bool) -> Iterator[str]:
    own, other = (budget(each) if with_budget else {} for each in (run, reference))
    yield from (f"{what.rpartition('.')[2]} {reason}" for what, reason in _unequal(own, other, list(own)))
    for site in sorted(run.sites.keys() | reference.sites.keys()):
        if site not in run.sites or site not in reference.sites:
            yield f"site '{site}' tested in one of them only"
            continue
        unequal = _unequal(run.sites[site], reference.sites[site], DATA)
        yield from (f"{what} of site '{site}' {reason}" for what, reason in unequal)


def _unequal(
    own: Mapping[str, Any], other: Mapping[str, Any], keys: Sequence[str]
) -> Iterator[tuple[str, str]]:
    for key in keys:
        if own.get(key) != other.get(key):
            yield key, f"{own.get(key)} instead of {other.get(key)}"
