"""Means among those sites alone whose changes agree, for each part of the network by itself."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mucald.aggregation.base import State, moved_by_mean
from mucald.aggregation.parts import of_part, parts_in, put_together
from mucald.aggregation.products import cosines, products
from mucald.config.common import require

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parting:
    """Clustered federated learning (Sattler, Müller & Samek, IEEE TNNLS 2021), for each part of the network.

    Sites whose images or labels differ too much pull what they share in opposite directions, round after
    round. With u_i a site's change of a part, the server follows how well two sites agree,

        a_ij ← κ a_ij + (1 − κ) cos(u_i, u_j),

    from 0 on, and when a_ij < −τ it parts the two for good. Sites that are still joined, be it through
    others, are one cluster, and get the mean of its changes. So sites that disagree on one part, say the
    front end, learn it apart and go on to share the rest. Departure: the paper splits a cluster in two when
    its mean change is small and a site's is large; here a mean over rounds decides, since the cosine of one
    round scatters.

    Args:
        conflict: τ, above 0, at most 1. At 1 sites never part.
        memory: κ, at least 0, below 1.
    """

    conflict: float
    memory: float

    def __post_init__(self) -> None:
        require(0 < self.conflict <= 1, f"conflict must lie in (0, 1], not {self.conflict}")
        require(0 <= self.memory < 1, f"memory must lie in [0, 1), not {self.memory}")

    def combine(
        self,
        states: Mapping[str, State],
        changes: Mapping[str, State],
        scores: Mapping[str, float],
        memory: State,
    ) -> dict[str, State]:
        """Return each site's weights, moved by the mean change of its cluster in each part.

        Args:
            states: what the round began with, ``<part>.<name>``, by site; not written.
            changes: of the sites that did their round, without what a filter has kept at home.
            scores: what each change weighs in a mean, above 0.
            memory: how well sites agree and who has parted; written.

        Returns:
            One object for sites that have everything in common.
        """
        sites = sorted(states)
        pieces: dict[str, list[State]] = {site: [] for site in sites}
        for part in parts_in(states[sites[0]]):
            for members in _clusters(sites, self._joined(part, sites, changes, memory)):
                piece = of_part(states[members[0]], part)
                inside = [site for site in changes if site in members]
                if inside:
                    piece = moved_by_mean(
                        piece, [changes[site] for site in inside], [scores[site] for site in inside]
                    )
                for site in members:
                    pieces[site].append(piece)
        return put_together(pieces)

    def _joined(self, part: str, sites: Sequence[str], changes: Mapping[str, State], memory: State) -> Tensor:
        """Bring the memory of a part up to date; return which two sites are joined, (N, N)."""
        kept, joined = f"{part}.agreement", f"{part}.joined"
        agreement = memory.get(kept, torch.zeros(len(sites), len(sites), dtype=torch.float64))
        present = torch.tensor([sites.index(site) for site in changes])
        pairs = present[:, None], present
        # What a filter has kept counts as unchanged.
        told = cosines(products([of_part(change, part) for change in changes.values()]))
        agreement = agreement.index_put(pairs, self.memory * agreement[pairs] + (1 - self.memory) * told)
        before = memory.get(joined, torch.ones(agreement.shape, dtype=torch.bool))
        memory |= {kept: agreement, joined: before & ~(agreement < -self.conflict)}
        for one, other in (before & ~memory[joined]).triu().nonzero().tolist():
            log.info("%s: '%s' and '%s' pull apart and are no longer joined", part, sites[one], sites[other])
        return memory[joined]


def _clusters(sites: Sequence[str], joined: Tensor) -> list[list[str]]:
    """Return the sites that are joined, be it through others, in order of name."""
    # Imported where it is used: sites, which combine nothing, start without it.
    from scipy.sparse.csgraph import connected_components

    count, numbers = connected_components(joined.numpy(), directed=False)
    return [
        [site for site, own in zip(sites, numbers, strict=True) if own == number] for number in range(count)
    ]
