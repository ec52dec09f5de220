"""The report on a set of runs: which sections it has and what they say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mucald.state.files import write_atomically
from mucald_studies.reporting.comparability import differences, find_alone, require_comparable
from mucald_studies.reporting.comparison import MEAN, compare_all
from mucald_studies.reporting.document import Bullets, Document, Figure, Heading, Paragraph, Picture, Pictures
from mucald_studies.reporting.figures import Bar, BarRow, Curve, bar_chart, curve_panels
from mucald_studies.reporting.pictures import site_examples
from mucald_studies.reporting.runs import Method, Run
from mucald_studies.reporting.statistics import bootstrap_interval
from mucald_studies.reporting.tables import MARK, Tables

TITLE = "MuCALD: results"

_DICE = "Mean ± standard deviation over seeds, each site with its best round by validation. Bold: better than"
_TESTS = (
    "Mean difference of Dice, its 95 % bootstrap interval over seeds and images, and p of the two-sided "
    "Wilcoxon signed-rank test on per-image Dice averaged over seeds, Holm-corrected for all {count} tests. "
    "The test pairs images, for the mean those of all sites; with few seeds it says little of training anew."
)
_ALONE = (
    "Mean difference of Dice to `{alone}`, in which every site trains alone, with interval and p as above, "
    "Holm-corrected for the {count} tests of this table. Below 0 a site is worse off than alone."
)
_FACTORS = (
    "How far a site's copy went from its own state (0) towards the shared one (1) when a round began, by "
    "block, as its validation loss chose; means over rounds and seeds. In brackets: by how much that loss "
    "was lower than with the site's own state."
)
_METRICS = "Foreground classes, where it does not say otherwise. HD95 and ASSD: lower is better."
_CURVES = "Mean over seeds. With up to three methods the band spans the lowest to the highest seed."
_SERVER = "Test Dice minus the Dice with the server's features put to zero. Near 0 the server adds nothing."
_PRIVACY = (
    "SNR: of the latent at level t. With noise that the server knows (`epsilon`), or with none, it recovers "
    "the clean latent. Every further release of an image gives away more."
)
_COST = "Means over seeds, sums over sites. Times depend on the machine and on what else it did."
_NO_PICTURES = (
    "No pictures of {sites}. A site with images of its own writes none unless its `site.json` says "
    '`"tensorboard_images": true`, and then into its own run folder, which has to lie beside the results.'
)


class Report:
    """Writes the report on a set of methods.

    Args:
        methods: all of them.
        reference: the one that the others are compared with.
        allow_differences: whether methods with other data or another budget are marked rather than refused.

    Raises:
        ReportError: methods differ in data or budget, and that is not allowed.
    """

    def __init__(self, methods: Sequence[Method], reference: Method, allow_differences: bool):
        if not allow_differences:
            require_comparable(methods, reference)
        self._reference = reference
        self._methods = [reference, *(method for method in methods if method is not reference)]
        self._sites = sorted({site for run in self._runs() for site in run.sites})
        self._odd = differences(methods, reference)
        compared = compare_all(self._methods, reference, sorted(reference.first.sites), self._odd)
        self._n_tests = len(compared)
        self._tables = Tables(self._methods, reference.label, self._sites, compared, self._odd)

    def _runs(self) -> list[Run]:
        return [run for method in self._methods for run in method.runs.values()]

    def document(self) -> Document:
        """Return the whole report."""
        document = Document()
        self._add_summary(document)
        self._add_dice(document)
        self._add_curves(document)
        self._add_server(document)
        self._add_examples(document)
        self._add_metrics(document)
        self._add_runs(document)
        return document

    def _add_summary(self, document: Document) -> None:
        seeds = ", ".join(map(str, sorted({run.seed for run in self._runs()})))
        settings, sites = self._reference.first.settings, self._reference.first.sites
        document.add(
            Heading(TITLE, 1),
            Paragraph(
                f"Methods: {len(self._methods)}; runs: {len(self._runs())}; seeds: {seeds}; reference: "
                f"`{self._reference.label}`. Budget: {settings['training.rounds']} rounds × "
                f"{settings['training.local_epochs']} local epochs, batches of "
                f"{settings['training.batch_size']}, {settings['data.image_size']} × "
                f"{settings['data.image_size']} pixels."
            ),
            Paragraph(
                "Sites, with task, images and their number to train, validate and test: "
                + "; ".join(
                    f"{name} ({site['task']}, {site['source']}, "
                    f"{site['n_train']}/{site['n_validation']}/{site['n_test']})"
                    for name, site in sites.items()
                )
                + ".",
                "note",
            ),
        )
        for warning in self._warnings():
            document.add(Paragraph(warning, "warning"))

    def _warnings(self) -> list[str]:
        reference = self._reference
        found = [
            f"{self._tables.name(label)} cannot be compared with {reference.label} "
            f"and is not tested against it: {'; '.join(reasons)}."
            for label, reasons in self._odd.items()
        ]
        for method in self._methods:
            for seed, run in method.runs.items():
                found += [f"{method.label}, seed {seed}: {failure}." for failure in run.failures]
        if uneven := [
            method.label for method in self._methods if method.runs.keys() != reference.runs.keys()
        ]:
            found.append(
                f"Not the same seeds as {reference.label}: {', '.join(uneven)}. "
                "Tests use the seeds that both have."
            )
        if len(reference.runs) == 1:
            found.append("One seed: tests and intervals speak of the test images, not of training anew.")
        return found

    def _add_dice(self, document: Document) -> None:
        rows = [self._bar_row(method) for method in self._methods]
        document.add(
            Heading("Test Dice"),
            Paragraph(f"{_DICE} `{self._reference.label}` (p < 0.05).", "note"),
            self._tables.dice(),
            Figure(
                "dice",
                bar_chart([MEAN, *self._sites], rows, "Test Dice"),
                "Test Dice with 95 % bootstrap intervals over seeds and images.",
            ),
        )
        if self._n_tests:
            document.add(
                Heading(f"Difference to {self._reference.label}", 3),
                Paragraph(_TESTS.format(count=self._n_tests), "note"),
                self._tables.comparison(),
            )

        self._add_alone(document)
        if (factors := self._tables.factors()) is not None:
            document.add(Heading("How much sites take over", 3), Paragraph(_FACTORS, "note"), factors)

    def _add_alone(self, document: Document) -> None:
        """Say what collaboration gains over training alone, unless that is the reference anyway."""
        alone = find_alone(self._methods)
        if alone is None or alone is self._reference or alone.label in self._odd:
            return
        found = compare_all(self._methods, alone, sorted(alone.first.sites), self._odd)
        if found:
            document.add(
                Heading("Gain over each site alone", 3),
                Paragraph(_ALONE.format(alone=alone.label, count=len(found)), "note"),
                self._tables.comparison(found),
            )

    def _bar_row(self, method: Method) -> BarRow:
        bars = []
        for column in (MEAN, *self._sites):
            mean = column == MEAN
            values = method.values(*(() if mean else ("sites",)), column, "test", "dice")
            scores = [method.scores(site) for site in (self._sites if mean else [column])]
            known = [each for each in scores if np.isfinite(each).any()]
            interval = bootstrap_interval(known) if known else None
            bars.append(Bar(float(np.mean(values)) if values else None, interval))
        noised = bool(method.first.content["privacy"]["noised"])
        return BarRow(self._tables.name(method.label), bars, noised, method is self._reference)

    def _add_metrics(self, document: Document) -> None:
        document.add(Heading("All metrics"), Paragraph(_METRICS, "note"))
        document.add(Heading("Mean over sites", 3), self._tables.metrics(MEAN))
        for site in self._sites:
            document.add(Heading(self._site_title(site), 3), self._tables.metrics(site))
            if (classes := self._tables.classes(site)) is not None:
                document.add(Paragraph(f"Dice of each class of {site}:", "note"), classes)

    def _site_title(self, site: str) -> str:
        task = next(run.sites[site]["task"] for run in self._runs() if site in run.sites)
        return f"{site} ({task})"

    def _add_curves(self, document: Document) -> None:
        curves = {self._tables.name(method.label): _curves(method) for method in self._methods}
        panels = [
            column
            for column in (MEAN, *self._sites)
            if any(column in by_column for by_column in curves.values())
        ]
        if panels:
            name = self._tables.name(self._reference.label)
            drawing = curve_panels(panels, curves, name, "Validation Dice per round")
            document.add(Heading("Validation Dice per round"), Figure("validation", drawing, _CURVES))

    def _add_server(self, document: Document) -> None:
        document.add(
            Heading("What the server adds"),
            Paragraph(_SERVER, "note"),
            self._tables.contribution(),
            Heading("Privacy"),
            Paragraph(_PRIVACY, "note"),
            self._tables.privacy(),
            Heading("Wire and time"),
            Paragraph(_COST, "note"),
            self._tables.cost(),
        )

    def _add_examples(self, document: Document) -> None:
        document.add(Heading("Examples"))
        run = self._reference.first
        found = {site: site_examples(run, site) for site in sorted(run.sites)}
        if any(found.values()):
            which = f"`{self._reference.label}`, seed {run.seed}: best, median and worst test image by Dice. "
            document.add(Paragraph(f"{which}From left to right: image, labels, prediction.", "note"))
        if missing := [site for site, examples in found.items() if not examples]:
            document.add(Paragraph(_NO_PICTURES.format(sites=", ".join(missing)), "note"))
        for site, examples in found.items():
            pictures = [
                Picture(f"{site}-{example.case}", example.png, f"{example.case}: Dice {example.dice:.3f}")
                for example in examples
            ]
            if pictures:
                document.add(Heading(self._site_title(site), 3), Pictures(pictures))

    def _add_runs(self, document: Document) -> None:
        described = [
            f"`{self._tables.name(method.label)}`: {method.first.content['config']['description']}"
            for method in self._methods
        ]
        document.add(Heading("Methods and runs"), Bullets(described), self._tables.runs())
        if self._odd:
            document.add(
                Paragraph(f"{MARK.strip()} other data or another budget than the reference.", "note")
            )


def _curves(method: Method) -> dict[str, Curve]:
    """Return a method's curves by site, and :data:`MEAN` over the rounds in which all sites have a score."""
    scores: dict[str, dict[int, list[float]]] = {}
    for run in method.runs.values():
        by_round: dict[int, list[float]] = {}
        for site, entry in run.content["sites"].items():
            for validation in entry["validation"]:
                if validation["dice"] is not None:
                    number = validation["round"] + 1
                    by_round.setdefault(number, []).append(validation["dice"])
                    scores.setdefault(site, {}).setdefault(number, []).append(validation["dice"])
        for number, values in by_round.items():
            if len(values) == len(run.content["sites"]):
                scores.setdefault(MEAN, {}).setdefault(number, []).append(float(np.mean(values)))
    return {column: _curve(by_round) for column, by_round in scores.items()}


def _curve(by_round: dict[int, list[float]]) -> Curve:
    rounds = sorted(by_round)
    values = [by_round[number] for number in rounds]
    means = [float(np.mean(of_round)) for of_round in values]
    return Curve(
        rounds, means, [min(of_round) for of_round in values], [max(of_round) for of_round in values]
    )


def write_report(document: Document, folder: Path) -> None:
    """Write ``report.md`` with its figures beside it, and ``report.html``, which needs no other file."""
    for name, data in document.files().items():
        write_atomically(folder / name, data)
    write_atomically(folder / "report.md", document.markdown().encode())
    write_atomically(folder / "report.html", document.html().encode())
