"""What the report says with numbers: spread over seeds, intervals, and paired tests against the reference."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mucald.randomness import generator
from mucald_studies.reporting.runs import Method

Scores = NDArray[np.float64]
"""What is told of a site's test images, (seeds, images), such as their Dice; NaN where nothing counts."""

K = TypeVar("K")

MEAN = "mean"
"""Name of the column that stands for all sites."""
LEVEL = 0.05
RESAMPLES = 2000


@dataclass(frozen=True)
class Comparison:
    """A method against the reference, image by image.

    Args:
        difference: mean of the method's scores minus the reference's.
        interval: of that mean, from resampling seeds and images.
        p: two-sided, of the Wilcoxon signed-rank test; after :func:`holm` adjusted for all tests made.
        n: pairs of images.
    """

    difference: float
    interval: tuple[float, float]
    p: float
    n: int

    @property
    def better(self) -> bool:
        """Whether the method is better, beyond what chance explains."""
        return self.p < LEVEL and self.difference > 0


Comparisons = dict[tuple[str, str], Comparison]
"""By method's label and site; :data:`MEAN` for all sites."""


def compare_all(
    methods: Sequence[Method], reference: Method, sites: Sequence[str], excluded: Collection[str]
) -> Comparisons:
    """Compare every method with the reference, over the seeds that both have, with one correction for all.

    Methods whose labels are ``excluded`` had another budget or other data and do not pair with the reference.
    """
    found: Comparisons = {}
    for method in methods:
        seeds = [seed for seed in method.runs if seed in reference.runs]
        if method is reference or method.label in excluded or not seeds:
            continue
        pairs = {site: (method.scores(site, seeds), reference.scores(site, seeds)) for site in sites}
        columns = {site: [pair] for site, pair in pairs.items()} | {MEAN: list(pairs.values())}
        for column, chosen in columns.items():
            if (comparison := compare(chosen)) is not None:
                found[method.label, column] = comparison
    adjusted = holm({key: comparison.p for key, comparison in found.items()})
    return {key: replace(comparison, p=adjusted[key]) for key, comparison in found.items()}


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return mean and standard deviation (n − 1) over seeds; None where there are too few values for it."""
    if not values:
        return None, None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def compare(pairs: Sequence[tuple[Scores, Scores]]) -> Comparison | None:
    """Compare a method with the reference over one site or several.

    Each image's difference is averaged over seeds, so that an image counts once, and Wilcoxon's signed-rank
    test (Wilcoxon, 1945; images without a difference are dropped) asks whether the differences are symmetric
    about 0. It takes the trained networks as given: with few seeds it speaks of the images.

    Args:
        pairs: per site the method's and the reference's scores, for the same seeds and images. There is no
            comparison if no image counts in both.
    """
    differences = [own - other for own, other in pairs]
    per_site = [_mean_over_seeds(difference) for difference in differences]
    known = [values[np.isfinite(values)] for values in per_site if np.isfinite(values).any()]
    if not known:
        return None
    finite = np.concatenate(known)
    p = float(stats.wilcoxon(finite).pvalue) if finite.any() else 1.0
    mean = float(np.mean([values.mean() for values in known]))
    return Comparison(mean, bootstrap_interval(differences), p, finite.size)


def _mean_over_seeds(scores: Scores) -> NDArray[np.float64]:
    known = np.isfinite(scores)
    totals, counts = np.where(known, scores, 0).sum(axis=0), known.sum(axis=0)
    return np.divide(totals, counts, out=np.full(scores.shape[1], np.nan), where=counts > 0)


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """Return p-values adjusted for their number by Holm's step-down procedure (Holm, 1979)."""
    keys = sorted(p_values, key=lambda key: p_values[key])
    steps = [min(1.0, (len(keys) - rank) * p_values[key]) for rank, key in enumerate(keys)]
    return dict(zip(keys, map(float, np.maximum.accumulate(steps)), strict=True)) if keys else {}


def bootstrap_interval(sites: Sequence[Scores], confidence: float = 1 - LEVEL) -> tuple[float, float]:
    """Return a percentile interval of the mean over sites of the mean over their seeds and images.

    Seeds are drawn with replacement for all sites at once, as a run trains them together, and images within
    each site (two-stage bootstrap; Davison & Hinkley, 1997, §3.8). With one seed the interval speaks of the
    images alone.

    Args:
        sites: scores per site, of the same seeds.
        confidence: share of resamples within the interval.
    """
    random = generator("report", "bootstrap")
    n_seeds = sites[0].shape[0]
    seeds = random.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=RESAMPLES).astype(float)
    means = []
    for scores in sites:
        n_images = scores.shape[1]
        images = random.multinomial(n_images, np.full(n_images, 1 / n_images), size=RESAMPLES)
        known = np.isfinite(scores)
        total = ((seeds @ np.where(known, scores, 0)) * images).sum(axis=1)
        count = ((seeds @ known) * images).sum(axis=1)
        # A resample in which no image counts says nothing of this site.
        means.append(np.divide(total, count, out=np.full(RESAMPLES, np.nan), where=count > 0))
    tails = (1 - confidence) / 2
    low, high = np.nanquantile(np.nanmean(means, axis=0), [tails, 1 - tails])
    return float(low), float(high)
