"""The report's tables: what stands in each cell."""

import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from mucald.metrics.names import names_of
from mucald.privacy.gaussian import VACUOUS_EPSILON, epsilon
from mucald_studies.reporting.page import Cell, Table
from mucald_studies.reporting.runs import Method
from mucald_studies.reporting.statistics import MEAN, Comparison, Comparisons, mean_and_deviation

NOTHING = "–"
MARK = " †"
HEADERS = {
    "dice": "Dice",
    "iou": "IoU",
    "iou_with_background": "IoU with background",
    "precision": "precision",
    "recall": "recall",
    "hd95": "HD95 [px]",
    "assd": "ASSD [px]",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "f1_weighted": "F1, weighted",
    "auroc": "AUROC",
    "calibration_error": "calibration error",
}
_PER_IMAGE = {"dice_per_image": "Dice", "balanced_per_image": "balanced accuracy"}
_IN_PIXELS = ("hd95", "assd")
_COSTS = {
    "up [MB]": (("wire", "bytes_up"), 1e6),
    "down [MB]": (("wire", "bytes_down"), 1e6),
    "per image and step [kB]": (("wire", "bytes_per_image_step"), 1e3),
    "whole run [s]": (("timing", "wall_s"), 1),
    "sites [s]": (("timing", "site_s"), 1),
    "server [s]": (("timing", "server_s"), 1),
    "transport [s]": (("timing", "transport_s"), 1),
}
"""Columns, with where the number stands in the results, and its unit."""
_FINEST = 0.001


class Tables:
    """Builds the tables of one set of methods.

    Args:
        methods: in the order of the rows.
        sites: in the order of the columns.
        compared: with the reference.
        marked: labels of the methods with another budget or other data.

    Attributes:
        score: what sites are scored by first, as a heading says it; "Dice" where all segment.
        per_image: what tests and intervals are made of.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        sites: Sequence[str],
        comparisons: Comparisons,
        marked: Container[str],
    ):
        self._methods, self._sites = methods, sites
        self._comparisons, self._marked = comparisons, marked
        tasks = {
            entry["task"]
            for method in methods
            for run in method.runs.values()
            for entry in run.sites.values()
        }
        names = [names_of(task) for task in sorted(tasks)]
        self.score = " or ".join(dict.fromkeys(HEADERS.get(name.primary, name.primary) for name in names))
        self.per_image = " or ".join(dict.fromkeys(_PER_IMAGE[name.per_image] for name in names))
        self._primaries = {name.primary for name in names}

    def name(self, label: str) -> str:
        """Return a method's label, with a mark if its budget or data are not the reference's."""
        return label + MARK * (label in self._marked)

    def _table(
        self, columns: Sequence[str], cell: Callable[[Method, str], Cell | str], words: int = 1
    ) -> Table | None:
        """Return a row for every method that has anything to say; None if none has."""
        rows = {method.label: [cell(method, column) for column in columns] for method in self._methods}
        told = [
            [self.name(label), *row]
            for label, row in rows.items()
            if any(str(cell) != NOTHING for cell in row)
        ]
        return Table(["method", *columns], told, words) if told else None

    def _by_site(self, cell: Callable[[Method, str], Cell | str]) -> Table | None:
        return self._table([MEAN, *self._sites], cell)

    def _score(self, method: Method, column: str, metric: str) -> Cell:
        """Return a test score, bold if it is the first one and the method is better by it."""
        values = method.values(*place(column), "test", metric)
        return Cell(spread(values, metric), metric in self._primaries and self._better(method, column))

    def _better(self, method: Method, column: str) -> bool:
        comparison = self._comparisons.get((method.label, column))
        return comparison is not None and comparison.better

    def scores(self) -> Table | None:
        """First test score per site, and the sites' mean."""

        def cell(method: Method, column: str) -> Cell:
            values = method.test_scores(None if column == MEAN else column)
            return Cell(spread(values, "score"), self._better(method, column))

        return self._by_site(cell)

    def comparison(self, comparisons: Comparisons | None = None) -> Table | None:
        """Difference to the reference, or as ``comparisons`` say, with interval and p; per site and all."""
        known = self._comparisons if comparisons is None else comparisons
        return self._by_site(lambda method, column: _difference(known.get((method.label, column))))

    def metrics(self, column: str) -> Table | None:
        """All metrics of one site, or of their mean."""
        names = self._methods[0].first.content["mean"]["test"]
        metrics = {HEADERS.get(name, name): name for name in names}
        return self._table(list(metrics), lambda method, name: self._score(method, column, metrics[name]))

    def classes(self, site: str) -> Table | None:
        """Dice or F1 of each class of a site; None if it has a single foreground class."""
        first = self._methods[0].first.sites.get(site)
        if first is None:
            return None
        segments = names_of(first["task"]).primary == "dice"
        names, metric = list(first["test"]["per_class"])[segments:], "dice" if segments else "f1"
        keys = ("sites", site, "test", "per_class")
        table = self._table(names, lambda method, name: spread(method.values(*keys, name, metric), metric))
        return table if len(names) > 1 else None

    def contribution(self) -> Table | None:
        """What the server's features add to the test Dice, where a server has any."""
        return self._by_site(
            lambda method, column: signed(method.values(*place(column), "server_contribution"))
        )

    def factors(self) -> Table | None:
        """How far the sites' copies went towards the shared state, by block; None where none had a choice.

        Means over rounds and seeds; in brackets by how much the validation loss of the state chosen was lower
        than that of the site's own.
        """
        return self._table(self._sites, _factors)

    def cost(self) -> Table | None:
        """Bytes on the wire and seconds, means over seeds."""
        return self._table(
            list(_COSTS), lambda method, name: amount(method.values(*_COSTS[name][0]), _COSTS[name][1])
        )

    def privacy(self) -> Table | None:
        """What leaves the sites beside losses and scores: how often, with what noise and what guarantee."""
        kinds = dict.fromkeys(kind for method in self._methods for kind in method.first.disclosures)
        where = "data stay at the sites"

        def cell(method: Method, column: str) -> Cell | str:
            if column == where:
                return "NO" if method.first.pooled else "yes"
            found = method.first.disclosures.get(column)
            return _disclosure(found) if found else NOTHING

        return self._table([where, *kinds], cell, words=2 + len(kinds))

    def runs(self) -> Table:
        """Where the numbers come from."""
        rows = [
            [
                self.name(method.label),
                run.content["run_id"],
                str(run.path.parent),
                str(seed),
                str(run.content.get("version", NOTHING)),
            ]
            for method in self._methods
            for seed, run in method.runs.items()
        ]
        return Table(["method", "run", "folder", "seed", "version"], rows, words=3)


def place(column: str) -> tuple[str, ...]:
    """Return where results keep what a column shows: at its site, or as the mean of all."""
    return (MEAN,) if column == MEAN else ("sites", column)


def _factors(method: Method, site: str) -> str:
    choices = [
        choice
        for run in method.runs.values()
        for choice in run.content["sites"].get(site, {}).get("aggregation", [])
    ]
    blocks = list(dict.fromkeys(block for choice in choices for block in choice["factors"]))
    if not blocks:
        return NOTHING
    means = {
        block: mean_and_deviation([choice["factors"][block] for choice in choices])[0] for block in blocks
    }
    text = ", ".join(f"{block} {mean:.2f}" for block, mean in means.items())
    gain, _ = mean_and_deviation(
        [choice["loss_alone"] - choice["loss"] for choice in choices if choice["loss_alone"] is not None]
    )
    return text if gain is None else f"{text} ({gain:.4f})"


def _disclosure(disclosure: Mapping[str, Any]) -> Cell:
    """Describe what leaves by its noise, and below that how often, all facts, and what is guaranteed."""
    facts, guarantee = disclosure_facts(disclosure), f"guarantee: {disclosure_bounds(disclosure)}"
    noise = "WITHOUT noise" if disclosure["noise"] == "none" else disclosure["noise"]
    return Cell(noise, small="; ".join(filter(None, (disclosure["often"], facts, guarantee))))


def disclosure_facts(disclosure: Mapping[str, Any]) -> str:
    """Return all that a policy can limit of what leaves."""
    return ", ".join(f"{name} {_plain(value)}" for name, value in disclosure["facts"].items())


def disclosure_bounds(disclosure: Mapping[str, Any]) -> str:
    """Return what is guaranteed of what leaves, by the data splits where they differ.

    At the δ that the job promises it at, where it names one.
    """
    splits: dict[str, list[str]] = {}
    delta = disclosure["facts"].get("delta")
    for split, bound in disclosure["bounds"].items():
        value = bound["epsilon"]
        if delta is not None and bound["mu"] is not None:
            value = epsilon(bound["mu"], delta)
        told = "" if delta is None else f" at δ = {delta:g}"
        text = "none" if value is None else guaranteed(value, f"ε {value:.3g}{told}")
        splits.setdefault(text, []).append(split)
    if len(splits) < 2:
        return next(iter(splits), "none")
    return "; ".join(f"{text} for {', '.join(names)}" for text, names in splits.items())


def guaranteed(epsilon: float, text: str) -> str:
    """Return the text that tells an ε, or none with that text in brackets where it is too large to be one."""
    return f"none ({text})" if epsilon >= VACUOUS_EPSILON else text


def header(name: str) -> str:
    """Return a score's name for people."""
    return HEADERS.get(name, name)


def _plain(value: Any) -> str:
    return NOTHING if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def spread(values: Sequence[float], metric: str) -> str:
    """Return mean ± standard deviation over seeds, as precise as the metric deserves."""
    digits = 1 if metric in _IN_PIXELS else 3
    return _with_deviation(values, lambda value: f"{value:.{digits}f}")


def signed(values: Sequence[float]) -> str:
    """Return mean ± standard deviation over seeds with the mean's sign."""
    return _with_deviation(values, with_sign)


def _with_deviation(values: Sequence[float], text: Callable[[float], str]) -> str:
    mean, deviation = mean_and_deviation(values)
    if mean is None:
        return NOTHING
    return text(mean) if deviation is None else f"{text(mean)} ± {text(deviation).removeprefix('+')}"


def amount(values: Sequence[float], unit: float) -> str:
    """Return the mean over seeds in ``unit``, to three significant digits, or the integer, or "< 0.001"."""
    mean, _ = mean_and_deviation(values)
    if mean is None:
        return NOTHING
    value = mean / unit
    if 0 < value < _FINEST:
        return f"< {_FINEST}"
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def gain(comparison: Comparison, before: str = "") -> Cell:
    """Return a difference after a few words, bold if its interval lies above 0, and the interval below it."""
    text = before + with_sign(comparison.difference)
    return Cell(text, bold=comparison.interval[0] > 0, small=interval_of(comparison))


def _difference(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return Cell(NOTHING)
    p = "p < 0.001" if comparison.p < 0.001 else f"p = {comparison.p:.3f}"
    text = f"{with_sign(comparison.difference)}, {p}"
    return Cell(text, bold=comparison.better, small=interval_of(comparison))


def interval_of(comparison: Comparison) -> str:
    """Return a difference's interval."""
    return f"[{', '.join(map(with_sign, comparison.interval))}]"


def with_sign(value: float) -> str:
    """Return a difference of scores."""
    return f"{value:+.3f}".replace("-", "−")
