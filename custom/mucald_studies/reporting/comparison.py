"""Every method against the reference, at every site and over all, with one correction for all tests."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from mucald_studies.reporting.runs import Method
from mucald_studies.reporting.statistics import Comparison, Scores, compare, holm

MEAN = "mean"
"""Name of the column that stands for all sites."""

Comparisons = dict[tuple[str, str], Comparison]
"""By method's label and site; :data:`MEAN` for all sites."""


def compare_all(
    methods: Sequence[Method], reference: Method, sites: Sequence[str], excluded: Collection[str]
) -> Comparisons:
    """Compare every method with the reference, over the seeds that both have.

    Args:
        methods: all of them, the reference included.
        reference: what they are compared with.
        sites: the reference's sites.
        excluded: labels of methods with another budget or other data, which do not pair with the reference.
    """
    found: Comparisons = {}
    for method in methods:
        if method is reference or method.label in excluded:
            continue
        seeds = [seed for seed in method.runs if seed in reference.runs]
        pairs = {site: _pair(method, reference, site, seeds) for site in sites} if seeds else {}
        for column, chosen in [
            *((site, [pair]) for site, pair in pairs.items()),
            (MEAN, list(pairs.values())),
        ]:
            if chosen and (comparison := compare(chosen)) is not None:
                found[method.label, column] = comparison
    adjusted = holm({key: comparison.p for key, comparison in found.items()})
    return {key: replace(comparison, p=adjusted[key]) for key, comparison in found.items()}


def _pair(method: Method, reference: Method, site: str, seeds: Sequence[int]) -> tuple[Scores, Scores]:
    return method.scores(site, seeds), reference.scores(site, seeds)
