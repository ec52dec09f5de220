"""Finished runs, read from their ``results.json`` and grouped into methods."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mucald.config.job import INDECISIVE
from mucald.config.schema import read_json
from mucald.errors import ConfigError, ReportError
from mucald.metrics.names import names_of
from mucald.results.results import SCHEMA

RESULTS_FILE = "results.json"
SCORES = "scores"
OF_IMAGES = ("latents", "weights")
"""Kinds of disclosure that are made of whole images."""
_APART = ("splitfed", "fedem")
"""Algorithms of split learning that let sites learn from each other by the aggregation rule alone."""
_NEEDED = ("schema", "job", "run_id", "seed", "config", "sites", "mean", "wire", "timing", "privacy")


@dataclass(frozen=True)
class Run:
    """One finished run: its ``results.json`` and what the file holds."""

    path: Path
    content: dict[str, Any]

    @property
    def job(self) -> str:
        """Name of the job."""
        return self.content["job"]

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.content["seed"]

    @property
    def sites(self) -> dict[str, dict[str, Any]]:
        """What the run says of each site that tested."""
        return {name: site for name, site in self.content["sites"].items() if site["test"] is not None}

    def score(self, site: str | None = None) -> float | None:
        """Return the first score of a site's test, or the mean over those that tested; None if unknown."""
        chosen = self.sites.values() if site is None else filter(None, [self.sites.get(site)])
        told = [entry["test"][names_of(entry["task"]).primary] for entry in chosen]
        known = [value for value in told if value is not None]
        return sum(known) / len(known) if known else None

    @property
    def failures(self) -> list[str]:
        """What went wrong: sites that were left out of a round."""
        return [
            f"site '{failure['site']}' was left out of round {failure['round'] + 1}: {failure['reason']}"
            for failure in self.content.get("failures", [])
        ]

    def per_image(self, site: str) -> list[float | None] | None:
        """Return what is told of every test image of a site; None where it did not test.

        Raises:
            ReportError: an earlier version wrote the file.
        """
        entry = self.sites.get(site)
        if entry is None:
            return None
        name = names_of(entry["task"]).per_image
        if name not in entry:
            raise ReportError(
                f"{self.path}: site '{site}' lacks '{name}': run the job again with this version"
            )
        return entry[name]

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the run's numbers but the seed, by dotted key."""
        return flatten(decisive(self.content["config"]) | {"seed": None})

    @property
    def disclosures(self) -> dict[str, Mapping[str, Any]]:
        """What left the sites beside losses and scores, by kind."""
        found = self.content["privacy"]["disclosures"]
        return {each["kind"]: each for each in found if each["kind"] != SCORES}

    @property
    def pooled(self) -> bool:
        """Whether the images of all sites lay in one place."""
        config = self.content["config"]
        centralised = config["method"] == "generative" and config["algorithm"]["name"] == "centralised"
        return config["method"] == "pooled" or centralised

    @property
    def noised(self) -> bool:
        """Whether all that left and is made of whole images had noise on it."""
        of_images = [self.disclosures[kind] for kind in OF_IMAGES if kind in self.disclosures]
        return not self.pooled and all(each["noise"] != "none" for each in of_images)

    @property
    def alone(self) -> bool:
        """Whether every site learnt from its own images alone: nothing was combined, or nothing left."""
        settings = self.settings
        apart = settings.get("aggregation.rule") == "local" and settings.get("algorithm.name") in _APART
        return not self.pooled and (apart or not self.disclosures)


def decisive(config: dict[str, Any]) -> dict[str, Any]:
    """Return what of a configuration decides a run's numbers."""
    return {key: value for key, value in config.items() if key not in INDECISIVE}


def flatten(value: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return the leaves of nested JSON objects by dotted key; lists and empty objects are leaves."""
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{path}{key}"
        leaves |= flatten(item, f"{name}.") if isinstance(item, dict) and item else {name: item}
    return leaves


@dataclass(frozen=True)
class Method:
    """The runs of one job in one configuration, which differ in their seeds alone.

    Args:
        label: the job's name and, where a job comes in several configurations, what tells them apart.
        runs: by seed, in ascending order.
    """

    label: str
    runs: dict[int, Run]

    @property
    def first(self) -> Run:
        """The run with the smallest seed; what does not depend on the seed is read from it."""
        return next(iter(self.runs.values()))

    def scores(self, site: str, seeds: Sequence[int] | None = None) -> NDArray[np.float64]:
        """Return what is told of every test image of ``site``: (seeds, images); NaN where no class counts.

        That is its Dice, or of a task of classes its part in the balanced accuracy: their mean is the score.

        Of all the method's seeds, or of those given; a run in which the site did not test has a row of NaN.

        Raises:
            ReportError: runs of the method tested on unequally many images, or an earlier version wrote them.
        """
        runs = [self.runs[seed] for seed in (seeds if seeds is not None else self.runs)]
        told = [run.per_image(site) for run in runs]
        lengths = {len(values) for values in told if values is not None}
        if len(lengths) > 1:
            raise ReportError(f"runs of {self.label} tested site '{site}' on unequally many images")
        n_images = max(lengths, default=0)
        rows = [[np.nan] * n_images if values is None else values for values in told]
        return np.array(rows, dtype=np.float64).reshape(len(rows), n_images)

    def test_scores(self, site: str | None = None) -> list[float]:
        """Return one number per seed: the test's first score of a site, or its mean; where it is known."""
        told = [run.score(site) for run in self.runs.values()]
        return [value for value in told if value is not None]

    def values(self, *keys: str) -> list[float]:
        """Return one number per seed: what stands under ``keys`` in its results, where it is known."""
        found = []
        for run in self.runs.values():
            content: Any = run.content
            for key in keys:
                content = content.get(key) if isinstance(content, dict) else None
            found.append(content)
        return [float(value) for value in found if value is not None]


def find_runs(places: Sequence[Path]) -> list[Run]:
    """Read every ``results.json`` at or below ``places``; folders whose name starts with a dot are left out.

    Where two files are equal, say the server's and its copy, the one nearest to the top counts.

    Raises:
        ReportError: a place holds no results, or a file is damaged or of another schema.
    """
    runs: dict[bytes, Run] = {}
    for place in places:
        paths = sorted(_files(place), key=lambda path: (len(path.parts), path))
        if not paths:
            raise ReportError(f"no {RESULTS_FILE} at or below {place}")
        for path in paths:
            if (content := path.read_bytes()) not in runs:
                runs[content] = read_run(path)
    return list(runs.values())


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    for path in place.rglob(RESULTS_FILE):
        if not any(part.startswith(".") for part in path.relative_to(place).parts):
            yield path


def read_run(path: Path) -> Run:
    """Read one ``results.json``.

    Raises:
        ReportError: it is damaged, or of another schema than this version writes.
    """
    try:
        content = read_json(path)
    except ConfigError as error:
        raise ReportError(f"{path}: {error}") from None
    if content.get("schema") != SCHEMA:
        raise ReportError(
            f"{path} has schema {content.get('schema')}, but this version reads {SCHEMA}; "
            "run the job again, or make the report with the version that wrote it"
        )
    if missing := [key for key in _NEEDED if key not in content]:
        raise ReportError(f"{path} is not a whole results file: it lacks '{missing[0]}'")
    return Run(path, content)


def group_runs(runs: Sequence[Run]) -> list[Method]:
    """Group runs into methods, in alphabetical order of their labels.

    Raises:
        ReportError: two runs have the same job, configuration and seed.
    """
    methods = []
    for job, of_job in groupby(sorted(runs, key=lambda run: run.job), key=lambda run: run.job):
        variants: dict[str, list[Run]] = {}
        for run in of_job:
            variants.setdefault(repr(sorted(run.settings.items())), []).append(run)
        labels = _labels(job, [members[0].settings for members in variants.values()])
        for label, members in zip(labels, variants.values(), strict=True):
            methods.append(Method(label, _by_seed(label, members)))
    return sorted(methods, key=lambda method: method.label)


def _labels(job: str, variants: list[dict[str, Any]]) -> list[str]:
    """Return a label per variant of a job: its name, and the settings in which the variants differ."""
    if len(variants) == 1:
        return [job]
    keys = sorted({key for variant in variants for key in variant})
    telling = [key for key in keys if len({repr(variant.get(key)) for variant in variants}) > 1]
    return [f"{job} ({', '.join(f'{key}={variant.get(key)}' for key in telling)})" for variant in variants]


def _by_seed(label: str, runs: list[Run]) -> dict[int, Run]:
    ordered = sorted(runs, key=lambda run: run.seed)
    for one, other in pairwise(ordered):
        if one.seed == other.seed:
            raise ReportError(
                f"two runs of {label} have seed {one.seed}: {one.path} and {other.path}; remove one"
            )
    return {run.seed: run for run in ordered}
