"""Weights of each site's own, which follow the other sites as far as their updates agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mucald.aggregation.base import moved_by_mean
from mucald.aggregation.parts import of_part, parts_in, put_together
from mucald.aggregation.products import cosines, products
from mucald.config.common import require
from mucald.federation.method import State
from mucald.methods.weights.algorithms.base import Algorithm, Update


@dataclass(frozen=True)
class Adaptive(Algorithm):
    """Gives each site its own mean of the updates, weighted by how well they agree with its own, by part.

    With u_i a site's update of a part and n_i its training samples, the server follows how well two agree,

        a_ij ← κ a_ij + (1 − κ) cos(u_i, u_j),

    starting at 1, and moves the part of site i by Σ_j w_ij u_j, with w_ij ∝ n_j max(a_ij, 0) and a_ii = 1.
    So all sites begin as in FedAvg, and go on with those alone that learn alike. Weights by similarity are
    FedAMP's (Huang et al., AAAI 2021). Departure: it compares networks in one round, this compares updates
    over rounds, like clustered federated learning (Sattler et al., IEEE TNNLS 2021).

    Args:
        memory: κ, at least 0, at most 1. At 1 all is FedAvg.
    """

    memory: float

    def __post_init__(self) -> None:
        require(0 <= self.memory <= 1, f"memory must lie in [0, 1], not {self.memory}")

    def combine(
        self, states: Mapping[str, State], updates: Sequence[Update], memory: State
    ) -> dict[str, State]:
        """Return each site's weights; those of a site that was away follow the others all the same."""
        sites = sorted(states)
        pieces: dict[str, list[State]] = {site: [] for site in sites}
        for part in parts_in(states[sites[0]]):
            # A site may keep a part at home, for a round or by a filter. It is then away from this part.
            sent = [(u, change) for u in updates if (change := of_part(u.change, part))]
            rows, changes = [sites.index(u.site) for u, _ in sent], [change for _, change in sent]
            shares = self._agreement(part, len(sites), rows, changes, memory).clamp_min(0)
            moved: dict[tuple[Any, ...], State] = {}
            for number, site in enumerate(sites):
                followed = shares[number, rows].tolist()
                scores = tuple(u.n_train * share for (u, _), share in zip(sent, followed, strict=True))
                key = id(states[site]), scores
                if key not in moved:
                    moved[key] = _moved(of_part(states[site], part), changes, scores)
                pieces[site].append(moved[key])
        return put_together(pieces)

    def _agreement(
        self, part: str, count: int, present: list[int], changes: Sequence[State], memory: State
    ) -> Tensor:
        """Bring the memory of a part up to date; return how well each two sites agree on it, (N, N).

        Args:
            part: its name.
            count: N, all sites.
            present: numbers of those that sent changes of the part, in the order of the changes.
            changes: of the part.
            memory: written.
        """
        known = memory.get(part, torch.ones(count, count, dtype=torch.float64))
        rows = torch.tensor(present, dtype=torch.long)
        pairs = rows[:, None], rows
        told = cosines(products(changes)).fill_diagonal_(1)
        memory[part] = known.index_put(pairs, self.memory * known[pairs] + (1 - self.memory) * told)
        return memory[part]


def _moved(state: State, changes: Sequence[State], scores: Sequence[float]) -> State:
    followed = [(change, score) for change, score in zip(changes, scores, strict=True) if score]
    return moved_by_mean(state, *zip(*followed, strict=True)) if followed else state
