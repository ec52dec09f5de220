"""An update that serves the worst-off site too, followed by an optimiser of the server's."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from mucald.config.common import require
from mucald.federation.method import State
from mucald.methods.weights.algorithms.base import Algorithm, Update, names_sent
from mucald.methods.weights.algorithms.conflict import conflict_averse
from mucald.methods.weights.algorithms.fedavg import moved
from mucald.methods.weights.algorithms.server_optimiser import ServerOptimiser, is_statistic


@dataclass(frozen=True)
class FedCMT(Algorithm):
    """The server's rule of FedCMT: FedOpt along the sites' mean update, corrected where updates conflict.

    See :func:`.conflict_averse` and :class:`.ServerOptimiser`. The published code corrects one site alone,
    hence a factor (1 + c) / (1 + c²) and no conflict; here all sites take part, by their sizes.

    Args:
        c: how far the update may lie from the mean, in its length; at least 0, below 1. With 0 it is FedOpt.
        optimiser: of the server.
        rescale: divides the update by nothing (0), 1 + c² (1) or 1 + c (2).
        per: what is corrected by itself: all that is shared, or every block of convolutions.
    """

    c: float
    optimiser: ServerOptimiser
    rescale: Literal[0, 1, 2] = 1
    per: Literal["network", "block"] = "network"

    def __post_init__(self) -> None:
        require(0 <= self.c < 1, f"c must lie in [0, 1), not {self.c}")

    def combine(
        self, states: Mapping[str, State], updates: Sequence[Update], memory: State
    ) -> dict[str, State]:
        """Return the weights after the server's step, the same for all sites."""
        start, sent = next(iter(states.values())), names_sent(updates)
        wanted, blocks = moved(start, updates), dict[str, list[str]]()
        for name in start if self.c else ():
            if name in sent and not is_statistic(name):
                blocks.setdefault(block_of(name) if self.per == "block" else "", []).append(name)
        for names in blocks.values():
            mean = moved({name: torch.zeros_like(start[name]) for name in names}, updates)
            update = conflict_averse(mean, updates, names, self.c, self.rescale)
            wanted |= {name: start[name] + update[name] for name in names}
        return dict.fromkeys(states, self.optimiser.step(start, wanted, sent, memory))


def block_of(name: str) -> str:
    """Return the block of a tensor: ``middle.encoder.0`` of ``middle.encoder.0.1.conv.weight``."""
    return ".".join(name.split(".")[: 3 if re.match(r"\w+\.\w+\.\d+\.", name) else 2])
