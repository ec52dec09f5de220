"""The front and back end of a site that shares them with others of its group."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mucald.errors import WireError
from mucald.methods.split.algorithms import Algorithm
from mucald.methods.split.config import SplitConfig
from mucald.wire.tensors import check_tensors


class SharedEnds:
    """What a site takes over when a task begins, and what its training then changes of it.

    Args:
        config: the job.
        algorithm: tells the site's group.
        site: name of the site.
        parts: its front and back end by name.
    """

    def __init__(self, config: SplitConfig, algorithm: Algorithm, site: str, parts: Mapping[str, nn.Module]):
        self._tensors: dict[str, Tensor] = {}
        if algorithm.within is not None and algorithm.group(config, site):
            # The networks' own memory, so an optimiser stays valid.
            self._tensors = algorithm.within.shareable_parts(parts, config.aggregation.statistics)

    @torch.no_grad()
    def take(self, received: Mapping[str, Tensor]) -> None:
        """Put the group's ends in place; what the site's filters have taken out of them stays as it is.

        Raises:
            WireError: they are not what the site shares.
        """
        if not self._tensors:
            if received:
                raise WireError(f"the server sent '{min(received)}' with a task, but the site shares no ends")
            return
        check_tensors(received, self._tensors, "the server")
        for name, tensor in received.items():
            self._tensors[name].copy_(tensor)

    def snapshot(self) -> dict[str, Tensor]:
        """Return copies of what is shared."""
        return {name: tensor.clone() for name, tensor in self._tensors.items()}

    def change_since(self, begun: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what has changed since a :meth:`snapshot`, on the CPU."""
        return {name: (tensor - begun[name]).cpu() for name, tensor in self._tensors.items()}
