"""The report on a set of runs: what its page shows."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from mucald.metrics.names import names_of
from mucald.privacy.gaussian import VACUOUS_EPSILON
from mucald.tasks import get_task
from mucald_studies.reporting.comparability import (
    PASSES,
    budget,
    differences,
    find_alone,
    require_comparable,
    sample_size,
)
from mucald_studies.reporting.figures import BarRow, Curves, Interval, bar_chart, curve_panels, svg
from mucald_studies.reporting.joining import Attacks, joining_table
from mucald_studies.reporting.page import Page, Picture
from mucald_studies.reporting.pictures import site_examples
from mucald_studies.reporting.runs import Method, Run
from mucald_studies.reporting.statistics import MEAN, bootstrap_interval, compare_all
from mucald_studies.reporting.tables import Tables


def report(
    methods: Sequence[Method], reference: Method, allow_differences: bool, attacks: Attacks | None = None
) -> Page:
    """Return the report on a set of methods.

    Args:
        methods: all of them.
        reference: the one that the others are compared with.
        allow_differences: whether methods with other data or another budget are marked rather than refused.
        attacks: that were made on their runs.

    Raises:
        ReportError: methods differ in data or budget, and that is not allowed.
    """
    if not allow_differences:
        require_comparable(methods, reference)
    methods = [reference, *(method for method in methods if method is not reference)]
    odd = differences(methods, reference)
    runs = [run for method in methods for run in method.runs.values()]
    tasks = {site: entry["task"] for run in reversed(runs) for site, entry in run.sites.items()}
    compared = compare_all(methods, reference, sorted(reference.first.sites), odd)
    alone = find_alone(methods)
    comparable = alone is not None and alone is not reference and alone.label not in odd
    gains = compare_all(methods, alone, sorted(alone.first.sites), odd) if alone and comparable else {}
    tables = Tables(methods, sorted(tasks), compared, odd)
    pictures = {site: site_examples(reference.first, site) for site in sorted(reference.first.sites)}
    content = {
        "methods": methods,
        "runs": runs,
        "seeds": sorted({run.seed for run in runs}),
        "reference": reference,
        "budget": budget(reference.first),
        "passes": budget(reference.first)[PASSES],
        "sizes": ", ".join(dict.fromkeys(_size(reference.first, task) for task in tasks.values())),
        "warnings": list(_warnings(methods, odd)),
        "tables": tables,
        "compared": compared,
        "alone": alone,
        "gains": gains,
        "joining": joining_table(
            methods, sorted(tasks), compared if alone is reference else gains, attacks or {}
        ),
        "bars": _bars(methods, tables, sorted(tasks)),
        "curves": _curves(methods, tables, sorted(tasks)),
        "examples": {site: found for site, found in pictures.items() if found},
        "without_pictures": [site for site, found in pictures.items() if not found],
        "titles": {site: f"{site} ({tasks[site]})" for site in sorted(tasks)},
        "odd": odd,
        "vacuous": VACUOUS_EPSILON,
    }
    return Page("report.md", content)


def _size(run: Run, name: str) -> str:
    """Return what a network takes of a task at a time."""
    config, task = run.content["config"], get_task(name)
    if task.input == "embedding":
        return f"embeddings of {config['features']['dimension']} numbers"
    if task.input == "image":
        return "{0} × {0} pixels".format(config["data"]["image_size"])
    kind = "volumes" if task.target == "class" else "patches"
    return f"{kind} of {' × '.join(map(str, sample_size(run, name)))} voxels"


def _warnings(methods: Sequence[Method], odd: Mapping[str, Sequence[str]]) -> Iterator[str]:
    reference = methods[0]
    for label, reasons in odd.items():
        yield (
            f"{label} † cannot be compared with {reference.label} and is not tested against it: "
            f"{'; '.join(reasons)}."
        )
    for method in methods:
        for seed, run in method.runs.items():
            yield from (f"{method.label}, seed {seed}: {failure}." for failure in run.failures)
    if uneven := [method.label for method in methods if method.runs.keys() != reference.runs.keys()]:
        yield (
            f"Not the same seeds as {reference.label}: {', '.join(uneven)}. "
            "Tests use the seeds that both have."
        )
    if len(reference.runs) == 1:
        yield "One seed: tests and intervals speak of the test images, not of training anew."


def _bars(methods: Sequence[Method], tables: Tables, sites: Sequence[str]) -> Picture:
    rows = []
    for method in methods:
        bars = [_bar(method, column, sites if column == MEAN else [column]) for column in (MEAN, *sites)]
        rows.append(BarRow(tables.name(method.label), bars, method.first.noised, method is methods[0]))
    caption = (
        f"Test {tables.score} with 95 % bootstrap intervals over seeds and images{_intervals_of(tables)}."
    )
    return Picture("scores.svg", svg(bar_chart([MEAN, *sites], rows), "scores"), caption)


def _intervals_of(tables: Tables) -> str:
    return "" if tables.score == tables.per_image else f" (of the {tables.per_image})"


def _bar(method: Method, column: str, sites: Sequence[str]) -> tuple[float | None, Interval | None]:
    values = method.test_scores(None if column == MEAN else column)
    known = [scores for site in sites if np.isfinite(scores := method.scores(site)).any()]
    return float(np.mean(values)) if values else None, bootstrap_interval(known) if known else None


def _curves(methods: Sequence[Method], tables: Tables, sites: Sequence[str]) -> Picture | None:
    curves = {tables.name(method.label): _curves_of(method) for method in methods}
    shown = {column for by_column in curves.values() for column in by_column}
    panels = [column for column in (MEAN, *sites) if column in shown]
    if not panels:
        return None
    figure = curve_panels(panels, curves)
    return Picture("validation.svg", svg(figure, "validation"), f"Validation {tables.score} per round.")


def _curves_of(method: Method) -> Curves:
    """Return a method's scores by site, and as :data:`MEAN` those of rounds in which all sites have one."""
    found: dict[str, dict[int, list[float]]] = {}
    for run in method.runs.values():
        of_round: dict[int, list[float]] = {}
        for site, entry in run.content["sites"].items():
            primary = names_of(entry["task"]).primary
            for validation in entry["validation"]:
                if (score := validation[primary]) is not None:
                    number = validation["round"] + 1
                    of_round.setdefault(number, []).append(score)
                    found.setdefault(site, {}).setdefault(number, []).append(score)
        for number, scores in of_round.items():
            if len(scores) == len(run.content["sites"]):
                found.setdefault(MEAN, {}).setdefault(number, []).append(float(np.mean(scores)))
    return found
