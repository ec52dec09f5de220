"""The shared part of the server's networks as one set of modules, which the sites train in turn."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from mucald.aggregation import State
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
    """

    def __init__(self) -> None:
        self._modules: dict[str, nn.Module] = {}
        self._moments: Moments = {}
        self.round = 0
        self._beginnings: dict[int, State] = {}
        self._before: tuple[State, Moments] = {}, {}

    def put_into(self, segments: ServerSegments) -> None:
        """Put the shared modules into the places of the segments' own; the first segments give theirs."""
        for path, module in _shared_modules(segments).items():
            parent, _, name = path.rpartition(".")
            setattr(segments.get_submodule(parent), name, self._modules.setdefault(path, module))

    def weights(self) -> State:
        """Return the present parameters and buffers by their names in the segments."""
        return module_tensors(self._modules)

    def begin_round(self, round_number: int, in_use: Collection[int]) -> None:
        """Keep the present weights as those of the round's beginning.

        Args:
            round_number: number of complete rounds.
            in_use: beginnings of which rounds somebody still needs.
        """
        self.round = round_number
        kept = {number: self._beginnings[number] for number in in_use}
        self._beginnings = kept | {round_number: _cloned(self.weights())}

    def beginning(self, round_number: int) -> State:
        """Return the weights that a round began with, the open one or one in use; not to be written."""
        return self._beginnings[round_number]

    def begin_turn(self, optimiser: torch.optim.Optimizer) -> None:
        """Hand AdamW's state to the optimiser of the site whose turn it is."""
        optimiser.state.update(self._moments)
        self._before = _cloned(self.weights()), _cloned_moments(self._moments)

    def end_turn(self, optimiser: torch.optim.Optimizer) -> None:
        """Take AdamW's state back."""
        self._moments = self._taken_from(optimiser)
        self._before = {}, {}

    @torch.no_grad()
    def rewind(self, optimiser: torch.optim.Optimizer) -> None:
        """Go back to where the open turn began."""
        weights, moments = self._before
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
        for number, weights in self._beginnings.items():
            tensors |= with_prefix(f"beginning.{number}", weights)
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
        self._beginnings = {}
        for name, tensor in without_prefix("beginning", tensors).items():
            number, _, own = name.partition(".")
            self._beginnings.setdefault(int(number), {})[own] = tensor.to(devices[own])


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
