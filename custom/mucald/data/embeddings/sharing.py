"""One set shared out to several sites, as experiments need it; no patient is at two."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mucald.data.embeddings.sets import EmbeddingSet
from mucald.errors import ConfigError
from mucald.randomness import generator

Draw = np.random.Generator


@dataclass(frozen=True)
class Sharing:
    """How a set is shared out.

    Args:
        sites: number of sites; by metadata as many as the value has.
        alpha: concentration of the Dirichlet distribution.
        shards: of each site, pathologically.
        by: name of the metadata.
        keep: share of each class that is used at all.
        seed: decides everything.
    """

    sites: int = 10
    alpha: float = 0.3
    shards: int = 2
    by: str = ""
    keep: float = 1.0
    seed: int = 7


@dataclass(frozen=True)
class Pool:
    """What is shared out: a set, the rows of each patient that is used, and how."""

    content: EmbeddingSet
    cases: Mapping[str, list[int]]
    sharing: Sharing

    def by_class(self) -> dict[int, list[str]]:
        """Return patients by the class that most of their samples have."""
        found: dict[int, list[str]] = {}
        for case, rows in self.cases.items():
            labels = self.content.labels[rows].tolist()
            found.setdefault(max(sorted(set(labels)), key=labels.count), []).append(case)
        return dict(sorted(found.items()))


def iid(pool: Pool, draw: Draw) -> list[list[str]]:
    """Deal patients out one by one."""
    order = [list(pool.cases)[n] for n in draw.permutation(len(pool.cases))]
    return [order[start :: pool.sharing.sites] for start in range(pool.sharing.sites)]


def dirichlet(pool: Pool, draw: Draw) -> list[list[str]]:
    """Share each class out by one draw of a Dirichlet distribution over the sites."""
    found: list[list[str]] = [[] for _ in range(pool.sharing.sites)]
    for members in pool.by_class().values():
        order = [members[n] for n in draw.permutation(len(members))]
        shares = draw.dirichlet(np.full(pool.sharing.sites, pool.sharing.alpha))
        ends = np.round(np.cumsum(shares) * len(order)).astype(int)
        for site, (start, end) in enumerate(zip((0, *ends[:-1]), ends, strict=True)):
            found[site] += order[start:end]
    return found


def shards(pool: Pool, draw: Draw) -> list[list[str]]:
    """Sort patients by class, cut them into shards, and give each site some (McMahan et al., 2017)."""
    order = [case for members in pool.by_class().values() for case in members]
    pieces = np.array_split(np.arange(len(order)), pool.sharing.sites * pool.sharing.shards)
    dealt = draw.permutation(len(pieces)).reshape(pool.sharing.sites, pool.sharing.shards)
    return [[order[n] for piece in row for n in pieces[piece]] for row in dealt]


def metadata(pool: Pool, draw: Draw) -> list[list[str]]:  # noqa: ARG001 - nothing is drawn
    """Give each site one value of the metadata, such as a hospital."""
    if pool.sharing.by not in pool.content.header.groups:
        known = ", ".join(pool.content.header.groups) or "none"
        raise ConfigError(
            f"the set has no metadata '{pool.sharing.by}' (it has {known}); give --by one of it"
        )
    values = pool.content.header.groups[pool.sharing.by]
    found: dict[str, list[str]] = {value: [] for value in sorted(set(values))}
    for case, rows in pool.cases.items():
        if len(of_case := {values[row] for row in rows}) > 1:
            several = ", ".join(sorted(of_case))
            raise ConfigError(
                f"patient '{case}' has several values of '{pool.sharing.by}': {several}; correct them, or "
                "share the set out in another way"
            )
        found[values[rows[0]]].append(case)
    return list(found.values())


WAYS: dict[str, Callable[[Pool, Draw], list[list[str]]]] = {
    "iid": iid,
    "dirichlet": dirichlet,
    "shards": shards,
    "metadata": metadata,
}


def shared_out(content: EmbeddingSet, way: str, sharing: Sharing) -> list[list[int]]:
    """Return the rows of each site; the same for the same arguments.

    Raises:
        ConfigError: the way is unknown, a number lies outside its range, or a site would get fewer than three
            patients.
    """
    if way not in WAYS:
        raise ConfigError(f"unknown way '{way}' to share a set out (known: {', '.join(WAYS)})")
    if not sharing.alpha > 0:
        raise ConfigError(f"alpha must be above 0, not {sharing.alpha:g}")
    if not 0 < sharing.keep <= 1:
        raise ConfigError(f"the share to keep must be above 0 and at most 1, not {sharing.keep:g}")
    cases = _kept(content, sharing)
    dealt = WAYS[way](Pool(content, cases, sharing), generator(sharing.seed, "clients", way))
    found = [[row for case in members for row in cases[case]] for members in dealt]
    check_apart(content, found)
    for site, rows in enumerate(found, 1):
        if len({content.case(row) for row in rows}) < 3:
            raise ConfigError(
                f"site {site} of {len(found)} gets fewer than 3 patients; take fewer sites, another seed or "
                "a larger alpha"
            )
    return [sorted(rows) for rows in found]


def check_apart(content: EmbeddingSet, sites: Sequence[Sequence[int]]) -> None:
    """Check that no patient is at two sites.

    Raises:
        ConfigError: one is.
    """
    place: dict[str, int] = {}
    for site, rows in enumerate(sites):
        for row in rows:
            first = place.setdefault(content.case(row), site)
            if first != site:
                raise ConfigError(f"a patient would be at the sites {first + 1} and {site + 1}")


def _kept(content: EmbeddingSet, sharing: Sharing) -> dict[str, list[int]]:
    """Return the rows of every patient that is used: of each class the share ``keep``, at least one."""
    cases: dict[str, list[int]] = {}
    for row in range(len(content)):
        cases.setdefault(content.case(row), []).append(row)
    if sharing.keep >= 1:
        return cases
    draw, kept = generator(sharing.seed, "subsample"), dict[str, list[int]]()
    for members in Pool(content, cases, sharing).by_class().values():
        count = max(1, round(sharing.keep * len(members)))
        kept |= {members[n]: cases[members[n]] for n in sorted(draw.permutation(len(members))[:count])}
    return kept
