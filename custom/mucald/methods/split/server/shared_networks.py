"""What the copies of all sites have in common, above all networks that the sites train in turn."""

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mucald.aggregation import State
from mucald.methods.split.algorithms import Algorithm
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.segments import ServerSegments
from mucald.state.checkpoint import load_module_tensors, module_tensors, with_prefix, without_prefix

Moments = dict[Tensor, dict[str, Tensor]]
"""AdamW's state by parameter: number of steps and both moments."""


class SharedNetworks:
    """One set of networks with one state of AdamW for all sites (SplitFed V2; Thapa et al., AAAI 2022).

    The modules are the same objects in every site's segments, so one site at a time may compute with them.
    AdamW's state is handed to the site whose turn it is and taken back after it. What a round begins with is
    kept, for all sites validate that; and of the rounds before what is the best of some site.
    ``round`` is the open round, that is the number of complete ones.

    Where each site has networks of its own nothing is put into any segments, and nothing is shared here.
    """

    def __init__(self) -> None:
        self._modules: dict[str, nn.Module] = {}
        self._moments: Moments = {}
        self.round = 0
        self._starts: dict[int, State] = {}
        self._before_turn: tuple[State, Moments] = {}, {}

    def put_into(self, segments: ServerSegments) -> None:
        """Put the shared modules into the places of the segments' own; the first segments give theirs."""
        for path, module in _shared_modules(segments).items():
            parent, _, name = path.rpartition(".")
            setattr(segments.get_submodule(parent), name, self._modules.setdefault(path, module))

    def weights(self) -> State:
        """Return the present parameters and buffers by their names in the segments."""
        return module_tensors(self._modules)

    def without(self, state: State) -> State:
        """Return what of a copy's state is not shared."""
        shared = self.weights()
        return {name: tensor for name, tensor in state.items() if name not in shared}

    def begin_round(self, round_number: int, in_use: Collection[int]) -> None:
        """Keep the present weights as those of the round's start.

        Args:
            round_number: number of complete rounds.
            in_use: the starts of which rounds somebody still needs.
        """
        self.round = round_number
        kept = {number: self.start_of(number) for number in in_use}
        self._starts = kept | {round_number: _cloned(self.weights())}

    def start_of(self, round_number: int) -> State:
        """Return the weights that a round began with, the open one or one in use; not to be written."""
        return self._starts[round_number] if self._modules else {}

    def begin_turn(self, optimiser: torch.optim.Optimizer) -> None:
        """Hand AdamW's state to the optimiser of the site whose turn it is."""
        optimiser.state.update(self._moments)
        self._before_turn = _cloned(self.weights()), _cloned_moments(self._moments)

    def end_turn(self, optimiser: torch.optim.Optimizer) -> None:
        """Take AdamW's state back."""
        self._moments = self._taken_from(optimiser)
        self._before_turn = {}, {}

    @torch.no_grad()
    def rewind(self, optimiser: torch.optim.Optimizer) -> None:
        """Go back to where the open turn began."""
        weights, moments = self._before_turn
        present = self.weights()
        for name, tensor in weights.items():
            present[name].copy_(tensor)
        self._taken_from(optimiser)
        optimiser.state.update(_cloned_moments(moments))

    def _taken_from(self, optimiser: torch.optim.Optimizer) -> Moments:
        parameters = self._parameters().values()
        return {p: optimiser.state.pop(p) for p in parameters if p in optimiser.state}

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {
            f"{path}.{name}": parameter
            for path, module in self._modules.items()
            for name, parameter in module.named_parameters()
        }

    def state(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint between two rounds holds."""
        tensors = with_prefix("weights", self.weights())
        for name, parameter in self._parameters().items():
            tensors |= with_prefix(f"moments.{name}", self._moments.get(parameter, {}))
        for number, weights in self._starts.items():
            tensors |= with_prefix(f"start.{number}", weights)
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        load_module_tensors(self._modules, without_prefix("weights", tensors))
        self._moments = {}
        for name, parameter in self._parameters().items():
            moments = without_prefix(f"moments.{name}", tensors)
            if moments:
                self._moments[parameter] = {q: tensor.to(parameter.device) for q, tensor in moments.items()}
        devices = {name: tensor.device for name, tensor in self.weights().items()}
        self._starts = {}
        for name, tensor in without_prefix("start", tensors).items():
            number, _, own = name.partition(".")
            self._starts.setdefault(int(number), {})[own] = tensor.to(devices[own])


def _shared_modules(segments: ServerSegments) -> dict[str, nn.Module]:
    """Return the outermost modules all of whose parameters and buffers the sites share, by path."""
    found: dict[str, nn.Module] = {}
    for path, module in segments.named_modules():
        within = any(path.startswith(f"{outer}.") for outer in found)
        if segments.is_shared(f"{path}.") and not within:
            found[path] = module
    return found


def _cloned(state: State) -> State:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _cloned_moments(moments: Moments) -> Moments:
    return {parameter: _cloned(values) for parameter, values in moments.items()}


@dataclass(frozen=True)
class CopyPlan:
    """What the copies of all sites have in common.

    Args:
        config: the job.
        algorithm: what is done beyond averaging.
        keeps_start: whether the aggregation rule looks at what the sites share as it was when a round began.
        device: where to compute.
        algorithm_state: what the algorithm remembers of the rounds before; frozen in a round.
        shared: the networks that the sites train in turn, if the algorithm has them do so.
    """

    config: SplitConfig
    algorithm: Algorithm
    keeps_start: bool
    device: torch.device
    algorithm_state: State = field(default_factory=dict)
    shared: SharedNetworks = field(default_factory=SharedNetworks)
