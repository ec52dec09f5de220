"""The weights that a copy keeps in files: those of the round's start, and the best."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from mucald.aggregation import State
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.segments import ServerSegments
from mucald.methods.split.server.shared_networks import SharedNetworks
from mucald.state.disk_tensors import DiskTensors

_MIDDLE = "middle."


class RoundStart:
    """What a round's training began with, as far as the job ever compares with it.

    It is the present weights until the first step is about to change them, and lies in a file from then on.

    Args:
        config: the job.
        segments: the site's networks at the server.
        keeps_shared: whether the aggregation rule compares with what the sites share.
        path: the file.
        device: of the networks.
    """

    def __init__(
        self,
        config: SplitConfig,
        segments: ServerSegments,
        keeps_shared: bool,
        path: Path,
        device: torch.device,
    ):
        self._segments, self._mu = segments, config.losses.proximal
        self._names = [
            name
            for name in segments.state_dict()
            if (keeps_shared and segments.is_shared(name)) or (self._mu and name.startswith(_MIDDLE))
        ]
        self._noted = DiskTensors(path, device)

    def forget(self) -> None:
        """Let the present weights be the start again."""
        self._noted.put({})

    def note(self) -> None:
        """Keep the present weights, unless some have been noted since :meth:`forget`.

        Raises:
            CheckpointError: the disk refused them.
        """
        if self._names and not self._noted:
            self._noted.put(self.weights())

    def weights(self) -> State:
        """Return the weights by name; present ones are the networks' own tensors."""
        if self._noted:
            return self._noted.load()
        present = self._segments.state_dict()
        return {name: present[name] for name in self._names}

    @torch.no_grad()
    def add_proximal_gradient(self, middle: Mapping[str, nn.Parameter]) -> float | None:
        """Add the gradient of ½ μ ‖θ − θ_round‖² (FedProx; Li et al., 2020, eq. 2).

        Args:
            middle: the middle network's parameters θ, by name.

        Returns:
            the term's value; None if μ is 0.
        """
        if not self._mu:
            return None
        norms = []
        noted = self._noted.tensors([f"{_MIDDLE}{name}" for name in middle])
        for parameter, start in zip(middle.values(), noted, strict=True):
            offset = parameter - start
            norms.append(offset.norm())
            if parameter.grad is not None:
                parameter.grad.add_(offset, alpha=self._mu)
        return 0.5 * self._mu * float(torch.stack(norms).norm()) ** 2


class BestWeights:
    """The weights of the best round that a site has validated, and their Dice; -1 before the first.

    Of networks that the sites train in turn only the round is noted: :class:`.SharedNetworks` has them.

    Args:
        segments: the site's networks at the server.
        shared: those of them that all sites train.
        path: the file.
        device: of the networks.
    """

    def __init__(self, segments: ServerSegments, shared: SharedNetworks, path: Path, device: torch.device):
        self._segments, self._shared, self._own = segments, shared, DiskTensors(path, device)
        self.dice = -1.0
        self.round: int | None = None

    def keep(self, dice: float) -> bool:
        """Keep the present weights if ``dice`` beats every earlier validation; return whether it did.

        Raises:
            CheckpointError: the disk refused them.
        """
        if dice <= self.dice:
            return False
        self._own.put(self._shared.without(self._segments.state_dict()))
        self.dice, self.round = dice, self._shared.round
        return True

    def own(self) -> State:
        """Return those that are the copy's own, by name; none before the first validation."""
        return self._own.load()

    def weights(self) -> State:
        """Return all of them, by name."""
        return self.own() | ({} if self.round is None else self._shared.start_of(self.round))

    def restore(self, own: State, dice: float, round_number: int | None) -> None:
        """Take what :meth:`own` returned, with its Dice and its round."""
        self._own.put(own)
        self.dice, self.round = dice, round_number

    def discard(self) -> None:
        """Forget the weights."""
        self._own.put({})
