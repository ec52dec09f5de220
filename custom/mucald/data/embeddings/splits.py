"""Which samples of a set train, validate and test: whole patients, and as many of each class as may be."""

from collections.abc import Iterable

from mucald.data.embeddings.sets import EmbeddingSet
from mucald.data.records.layouts import SPLITS
from mucald.data.records.splits import shuffled
from mucald.data.site_file import SiteFile
from mucald.errors import DataError


def rows_by_split(content: EmbeddingSet, site_file: SiteFile) -> dict[str, list[int]]:
    """Return the rows of every split.

    A set that tells its splits keeps them; training cases are held out for a split that it lacks. The draw
    depends on the cases' names alone. Of each class the share to validate is held out, then that to test of
    what is left, each time one case at least where there are three; a class with fewer only trains.

    Raises:
        DataError: a patient is in two splits, or a split is left empty.
    """
    told = [0] * len(content) if content.splits is None else content.splits.tolist()
    cases: dict[str, list[int]] = {}
    for row in range(len(content)):
        cases.setdefault(content.case(row), []).append(row)
    for case, rows in cases.items():
        if len({told[row] for row in rows}) > 1:
            raise DataError(
                f"case '{case}' is in two splits; give all its images one split, and embed them again",
                public="a case is in two splits",
            )
    kept = shuffled(cases)[: site_file.max_cases]
    found = {name: [case for case in kept if SPLITS[told[cases[case][0]]] == name] for name in SPLITS}
    shares = {"validation": site_file.split.validation, "test": site_file.split.test}
    lacking = [name for name in shares if not found[name]]
    by_class: dict[int, list[str]] = {}
    for case in found["train"]:
        by_class.setdefault(_class(content, cases[case]), []).append(case)
    if lacking:
        found["train"] = []
        for members in by_class.values():
            for name in lacking:
                count = max(1, round(shares[name] * len(members))) if len(members) >= len(SPLITS) else 0
                found[name] += members[:count]
                members[:count] = []
            found["train"] += members
    for name in SPLITS:
        if not found[name]:
            needed = len(SPLITS) + len(lacking) - 1
            raise DataError(
                f"no case is left for the split '{name}': no class has {needed} cases to train; add images",
                public=f"too few cases: the split '{name}' is empty",
            )
    return {name: sorted(_rows(cases, found[name])) for name in SPLITS}


def _rows(cases: dict[str, list[int]], names: Iterable[str]) -> list[int]:
    return [row for name in names for row in cases[name]]


def _class(content: EmbeddingSet, rows: list[int]) -> int:
    """Return the class that most samples of a patient have."""
    labels = content.labels[rows].tolist()
    return max(sorted(set(labels)), key=labels.count)
