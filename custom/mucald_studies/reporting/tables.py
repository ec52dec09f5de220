"""The report's tables: what stands in each cell."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mucald.metrics.names import NAMES
from mucald_studies.reporting.comparison import MEAN, Comparisons
from mucald_studies.reporting.document import Cell, Table
from mucald_studies.reporting.runs import Method
from mucald_studies.reporting.statistics import Comparison, mean_and_deviation

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
}
METRICS = NAMES["mask"].metrics
_IN_PIXELS = ("hd95", "assd")
_MEGA = 1e6
_KILO = 1e3


class Tables:
    """Builds the tables of one set of methods.

    Args:
        methods: in the order of the rows.
        reference: label of the method that the others are compared with.
        sites: in the order of the columns.
        comparisons: with the reference.
        marked: labels of the methods with another budget or other data.
    """

    def __init__(
        self,
        methods: Sequence[Method],
        reference: str,
        sites: Sequence[str],
        comparisons: Comparisons,
        marked: Mapping[str, Any],
    ):
        self._methods, self._reference, self._sites = methods, reference, sites
        self._comparisons, self._marked = comparisons, marked

    def name(self, label: str) -> str:
        """Return a method's label, with a mark if its budget or data are not the reference's."""
        return label + MARK * (label in self._marked)

    def _table(self, columns: Sequence[str], rows: Mapping[str, Sequence[Cell | str]]) -> Table:
        cells = [[self.name(label), *row] for label, row in rows.items()]
        return Table(["method", *columns], cells, self.name(self._reference))

    def dice(self) -> Table:
        """Test Dice per site and their mean; bold where the comparison says that it is better."""
        rows = {}
        for method in self._methods:
            cells = []
            for column in (MEAN, *self._sites):
                comparison = self._comparisons.get((method.label, column))
                text = spread(method.values(*_test_keys(column), "dice"), "dice")
                cells.append(Cell(text, bold=comparison is not None and comparison.better))
            rows[method.label] = cells
        return self._table([MEAN, *self._sites], rows)

    def comparison(self, comparisons: Comparisons | None = None) -> Table:
        """Difference to the reference, or as ``comparisons`` say, with interval and p; per site and all."""
        comparisons = self._comparisons if comparisons is None else comparisons
        rows = {}
        for method in self._methods:
            found = [comparisons.get((method.label, column)) for column in (MEAN, *self._sites)]
            if any(found):
                rows[method.label] = [_difference(each) if each else Cell(NOTHING) for each in found]
        return self._table([MEAN, *self._sites], rows)

    def metrics(self, column: str) -> Table:
        """All metrics of one site, or of their mean."""
        rows = {}
        for method in self._methods:
            comparison = self._comparisons.get((method.label, column))
            better = comparison is not None and comparison.better
            cells = [
                Cell(spread(method.values(*_test_keys(column), metric), metric), better and metric == "dice")
                for metric in METRICS
            ]
            rows[method.label] = cells
        return self._table([HEADERS[metric] for metric in METRICS], rows)

    def classes(self, site: str) -> Table | None:
        """Dice of each class of a site; None if it has a single foreground class."""
        first = self._methods[0].first.sites.get(site)
        names = list(first["test"]["per_class"])[1:] if first else []
        if len(names) < 2:
            return None
        rows = {
            method.label: [
                spread(method.values("sites", site, "test", "per_class", name, "dice"), "dice")
                for name in names
            ]
            for method in self._methods
        }
        return self._table(names, rows)

    def contribution(self) -> Table:
        """What the server's features add to the test Dice."""
        rows = {
            method.label: [
                signed(method.values(*_site_keys(column), "server_contribution"))
                for column in (MEAN, *self._sites)
            ]
            for method in self._methods
        }
        return self._table([MEAN, *self._sites], rows)

    def factors(self) -> Table | None:
        """How far the sites' copies went towards the shared state, by block; None where none had a choice.

        Means over rounds and seeds; in brackets by how much the validation loss of the state chosen was lower
        than that of the site's own.
        """
        rows = {}
        for method in self._methods:
            cells = [_factors(method, site) for site in self._sites]
            if any(cell != NOTHING for cell in cells):
                rows[method.label] = cells
        return self._table(self._sites, rows) if rows else None

    def cost(self) -> Table:
        """Bytes on the wire and seconds, means over seeds."""
        columns = {
            "up [MB]": (("wire", "bytes_up"), _MEGA),
            "down [MB]": (("wire", "bytes_down"), _MEGA),
            "per image and step [kB]": (("wire", "bytes_per_image_step"), _KILO),
            "whole run [s]": (("timing", "wall_s"), 1),
            "sites [s]": (("timing", "site_s"), 1),
            "server [s]": (("timing", "server_s"), 1),
            "transport [s]": (("timing", "transport_s"), 1),
        }
        rows = {
            method.label: [amount(method.values(*keys), unit) for keys, unit in columns.values()]
            for method in self._methods
        }
        return self._table(list(columns), rows)

    def privacy(self) -> Table:
        """How latents leave the sites."""
        columns = (
            "data stay at the sites",
            "noised",
            "t",
            "SNR",
            "supervision",
            "server can recover the latent",
            "releases per training image",
            "proxy noise",
        )
        rows = {method.label: _privacy(method.first.content["privacy"]) for method in self._methods}
        return self._table(columns, rows)

    def runs(self) -> Table:
        """Where the numbers come from."""
        rows: list[list[Cell | str]] = []
        for method in self._methods:
            for seed, run in method.runs.items():
                folder = Cell(f"`{run.path.parent}`", long=True)
                version = str(run.content.get("version", NOTHING))
                rows.append([self.name(method.label), str(seed), run.content["run_id"], version, folder])
        return Table(["method", "seed", "run", "version", "folder"], rows)


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


def _test_keys(column: str) -> tuple[str, ...]:
    return (*_site_keys(column), "test")


def _site_keys(column: str) -> tuple[str, ...]:
    return ("mean",) if column == MEAN else ("sites", column)


def spread(values: Sequence[float], metric: str) -> str:
    """Return mean ± standard deviation over seeds, as precise as the metric deserves."""
    mean, deviation = mean_and_deviation(values)
    if mean is None:
        return NOTHING
    digits = 1 if metric in _IN_PIXELS else 3
    text = f"{mean:.{digits}f}"
    return text if deviation is None else f"{text} ± {deviation:.{digits}f}"


def signed(values: Sequence[float]) -> str:
    """Return mean ± standard deviation over seeds with the mean's sign."""
    mean, deviation = mean_and_deviation(values)
    if mean is None:
        return NOTHING
    return _with_sign(mean) if deviation is None else f"{_with_sign(mean)} ± {deviation:.3f}"


def amount(values: Sequence[float], unit: float) -> str:
    """Return the mean over seeds in ``unit``, to three significant digits or the integer."""
    mean, _ = mean_and_deviation(values)
    if mean is None:
        return NOTHING
    value = mean / unit
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def _difference(comparison: Comparison) -> Cell:
    low, high = comparison.interval
    p = "p < 0.001" if comparison.p < 0.001 else f"p = {comparison.p:.3f}"
    interval = f"[{_with_sign(low)}, {_with_sign(high)}]"
    return Cell(f"{_with_sign(comparison.difference)}, {p}", bold=comparison.better, small=interval)


def _with_sign(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _privacy(privacy: Mapping[str, Any]) -> list[str]:
    releases = privacy.get("releases_per_sample")
    train = releases.get("train") if isinstance(releases, Mapping) else releases
    snr, level = privacy.get("snr"), privacy.get("t_release")
    recoverable = privacy.get("latent_recoverable_by_server")
    return [
        "NO" if privacy.get("data_pooled") else "yes",
        "yes" if privacy.get("noised") else "NO",
        _plain(level),
        NOTHING if snr is None else f"{snr:.3g}",
        _plain(privacy.get("supervision")),
        NOTHING if recoverable is None else ("YES" if recoverable else "no"),
        _plain(train),
        _plain(privacy.get("proxy_noise_std")),
    ]


def _plain(value: Any) -> str:
    return NOTHING if value is None else str(value)
