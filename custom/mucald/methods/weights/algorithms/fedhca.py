"""Every site keeps weights of its own, and learns how far to follow the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mucald import optimisers
from mucald.aggregation.base import moved_by_mean
from mucald.config.common import require, require_at_least
from mucald.federation.method import State
from mucald.methods.weights.algorithms.base import Algorithm, Update
from mucald.methods.weights.algorithms.conflict import conflict_averse
from mucald.methods.weights.algorithms.server_optimiser import is_statistic
from mucald.state.checkpoint import load_optimiser_tensors, optimiser_tensors, with_prefix, without_prefix

_DIRECTION, _ATTENDED, _HYPER, _OPTIMISER = "direction", "attended", "hyper", "optimiser"


@dataclass(frozen=True)
class FedHCA(Algorithm):
    """FedHCA² (Lu et al., CVPR 2024): hyper conflict-averse and hyper cross-attention aggregation.

    With Δ_i what site i's round has changed, a site's front end and middle network (or adaptor and encoder),
    and its back end (or decoder), become

        θ_i ← θ_i + Δ_i + α_i U,    δ_i ← δ_i + Δ_i + β_il softmax(Δ_i Kᵀ / √d) K,

    U being CAGrad's update over all sites (:func:`.conflict_averse`), and K the sites' changes of one tensor
    of d numbers in layer l. A round later the hyper-weights α_i and β_il follow the products of Δ_i with what
    they had weighed, by SGD, within [0, 1]. Heads stay at the site, so tasks may have unlike classes. A site
    that was away moves by α_i U alone. Departures: U weighs directions in place of lengths, and sites of one
    task are not averaged first; let them share within a group what they can.

    Args:
        c: of CAGrad, at least 0, below 1.
        rescale: U is divided by nothing (0), 1 + c² (1) or 1 + c (2).
        initial: with what α and β begin, at least 0, at most 1.
        learning_rate: of α and β, at least 0.
        momentum: of their SGD, at least 0, below 1.
        weight_decay: of their SGD, at least 0.
    """

    c: float = 0.4
    rescale: Literal[0, 1, 2] = 1
    initial: float = 0.1
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0001

    shares_heads: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("c", "momentum"):
            require(0 <= getattr(self, name) < 1, f"{name} must lie in [0, 1), not {getattr(self, name)}")
        require(0 <= self.initial <= 1, f"initial must lie in [0, 1], not {self.initial}")
        require_at_least(0, self, "learning_rate", "weight_decay")

    def combine(
        self, states: Mapping[str, State], updates: Sequence[Update], memory: State
    ) -> dict[str, State]:
        """Return each site's weights of the next round."""
        sites = sorted(states)
        names = [name for name in states[sites[0]] if not is_statistic(name)]
        encoder = [name for name in names if not _in_decoder(name)]
        hyper = self._learn(sites, [name for name in names if _in_decoder(name)], updates, memory)
        direction = self._direction(states[sites[0]], encoder, updates)
        attended = {name: _attended(name, updates) for name in names if _in_decoder(name)}
        memory |= with_prefix(_DIRECTION, direction)
        combined, row = {}, {update.site: number for number, update in enumerate(updates)}
        for number, site in enumerate(sites):
            own = updates[row[site]].change if site in row else {}
            steps = {name: hyper[f"{number}.alpha"] * tensor for name, tensor in direction.items()}
            for name in attended if site in row else ():
                memory[f"{_ATTENDED}.{number}.{name}"] = attended[name][row[site]]
                steps[name] = hyper[f"{number}.{_layer(name)}"] * attended[name][row[site]]
            combined[site] = {n: _sum(tensor, own.get(n), steps.get(n)) for n, tensor in states[site].items()}
        return combined

    def _direction(self, like: State, names: Sequence[str], updates: Sequence[Update]) -> State:
        """Return U, on the CPU."""
        zeros = {name: torch.zeros(like[name].shape) for name in names}
        mean = moved_by_mean(zeros, [update.change for update in updates], [1] * len(updates))
        return conflict_averse(mean, updates, names, self.c, self.rescale)

    def _learn(
        self, sites: Sequence[str], decoder: Sequence[str], updates: Sequence[Update], memory: State
    ) -> dict[str, Tensor]:
        """Let the hyper-weights follow this round's changes; return them by site and what they weigh."""
        layers = dict.fromkeys(map(_layer, decoder))
        names = [f"{number}.{what}" for number in range(len(sites)) for what in ("alpha", *layers)]
        kept = without_prefix(_HYPER, memory)
        weights = {name: nn.Parameter(kept.get(name, torch.tensor(self.initial)).clone()) for name in names}
        direction = without_prefix(_DIRECTION, memory)
        for update in updates if direction else ():
            number = sites.index(update.site)
            gains = {f"{number}.alpha": _product(direction, update)}
            for name, tensor in without_prefix(f"{_ATTENDED}.{number}", memory).items():
                key = f"{number}.{_layer(name)}"
                gains[key] = gains.get(key, 0.0) + _product({name: tensor}, update)
            for name, gain in gains.items():
                weights[name].grad = torch.tensor(-gain, dtype=torch.float32)
        optimiser = optimisers.SGD(
            weights.values(), lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
        )
        load_optimiser_tensors(optimiser, without_prefix(_OPTIMISER, memory))
        optimiser.step()
        found = {name: weight.detach().clamp_(0, 1) for name, weight in weights.items()}
        memory |= with_prefix(_OPTIMISER, optimiser_tensors(optimiser)) | with_prefix(_HYPER, found)
        return found


def _in_decoder(name: str) -> bool:
    return name.startswith(("back_end.", "decoder."))


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _product(tensors: State, update: Update) -> float:
    """Return the scalar product with a change; what the site has kept counts as unchanged."""
    pairs = [(tensor, update.change[name]) for name, tensor in tensors.items() if name in update.change]
    return sum(float((one.cpu().double() * other.cpu().double()).sum()) for one, other in pairs)


def _attended(name: str, updates: Sequence[Update]) -> Tensor:
    """Return what every site takes of all sites' changes of a tensor, (N, …), on the CPU."""
    shape = next((u.change[name].shape for u in updates if name in u.change), torch.Size())
    absent = torch.zeros(shape)
    rows = torch.stack([u.change.get(name, absent).cpu().double().flatten() for u in updates])
    mixed = (rows @ rows.T / rows.shape[1] ** 0.5).softmax(dim=1) @ rows
    return mixed.reshape(len(updates), *shape).float()


def _sum(start: Tensor, *steps: Tensor | None) -> Tensor:
    total = start.double()
    for step in steps:
        total = total if step is None else total + step.to(total.device)
    return total.to(start.dtype)
