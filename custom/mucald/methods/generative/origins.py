"""Whether the sites' embeddings were made alike: numbers of unlike networks must not be averaged."""

import hashlib
import json
from collections.abc import Mapping

from mucald.data.embeddings.sets import EmbeddingSet
from mucald.errors import DataError

BITS = 48
"""Of an origin, which JSON then keeps exactly wherever it is read."""

_FIX = (
    "network, weights, preprocessing, dimension or reference differ, or some are synthetic; run the same "
    "'mucald embed' at all sites, and name the weights in the job's features.weights"
)


def origin(content: EmbeddingSet) -> int:
    """Return a hash, below 2^:data:`BITS`, of how a set was made; nothing of an image is in it.

    It covers network, weights, preprocessing, space, dimension, and whether the set has a reference.
    """
    header = content.header
    made = (header.backbone, header.weights, header.preprocessing, header.space)
    numbers = (content.dimension, content.reference is not None)
    return int.from_bytes(hashlib.sha256(json.dumps((*made, *numbers)).encode()).digest()[: BITS // 8])


def unlike(origins: Mapping[str, int | None], agreed: int | None = None) -> dict[str, str]:
    """Return the sites whose embeddings were made differently, each with the reason.

    Args:
        origins: what :func:`origin` returned at each site; None where a site did not tell.
        agreed: the right one; by default that of the largest group, and of a tie none.
    """
    groups: dict[int | None, list[str]] = {}
    for site, made in origins.items():
        groups.setdefault(made, []).append(site)
    most = max(map(len, groups.values()), default=0)
    right = [made for made, sites in groups.items() if len(sites) == most] if agreed is None else [agreed]
    shown = [sites for made, sites in groups.items() if agreed is None or made != agreed]
    apart = " and of ".join(", ".join(f"'{site}'" for site in sites) for sites in shown)
    than = "" if agreed is None else " from those of the rounds before"
    reason = f"the embeddings of {apart} were made differently{than}: {_FIX}"
    return {site: reason for made, sites in groups.items() if right != [made] for site in sites}


def check_alike(sets: Mapping[str, EmbeddingSet]) -> None:
    """Check the sets of sites whose embeddings lie in one place.

    Raises:
        DataError: they were made differently.
    """
    if reasons := unlike({site: origin(content) for site, content in sets.items()}):
        reason = next(iter(reasons.values()))
        raise DataError(reason, public=reason)
