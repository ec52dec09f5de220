"""The weights that a round's training began with, and the pull back to them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mucald.methods.split.config import SplitConfig
from mucald.methods.split.model.segments import ServerSegments
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
        """Let the present weights be the beginning again."""
        self._noted.put({})

    def note(self) -> None:
        """Keep the present weights, unless some have been noted since :meth:`forget`.

        Raises:
            CheckpointError: the disk refused them.
        """
        if self._names and not self._noted:
            self._noted.put(self.weights())

    def weights(self) -> dict[str, Tensor]:
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
        begun = self._noted.tensors([f"{_MIDDLE}{name}" for name in middle])
        for parameter, start in zip(middle.values(), begun, strict=True):
            offset = parameter - start
            norms.append(offset.norm())
            if parameter.grad is not None:
                parameter.grad.add_(offset, alpha=self._mu)
        return 0.5 * self._mu * float(torch.stack(norms).norm()) ** 2
