"""The ends of a site that shares them with others of its group, by the server's mean."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mucald.errors import WireError
from mucald.federation.task import SiteTask
from mucald.methods.split.algorithms import Algorithm
from mucald.methods.split.config import SplitConfig
from mucald.wire.tensors import check_tensors


class SharedEnds:
    """What a site takes over when a task begins, and gives when it has trained; nothing if it shares nothing.

    Args:
        config: the job.
        algorithm: tells the site's group.
        site: name of the site.
        ends: its front and back end by name.
    """

    def __init__(self, config: SplitConfig, algorithm: Algorithm, site: str, ends: Mapping[str, nn.Module]):
        self._tensors: dict[str, Tensor] = {}
        self._begun: dict[str, Tensor] = {}
        if algorithm.group(config, site):
            # The networks' own memory, so an optimiser stays valid.
            self._tensors = algorithm.of_group(ends, config.aggregation.statistics)

    @torch.no_grad()
    def take(self, task: SiteTask, received: Mapping[str, Tensor]) -> None:  # noqa: ARG002 - as others do
        """Put the group's ends in place; what the site's filters have taken out of them stays as it is.

        Args:
            task: that brings them.
            received: its tensors.

        Raises:
            WireError: they are not what the site shares.
        """
        if self._tensors:
            check_tensors(received, self._tensors, "the server")
        elif received:
            raise WireError(f"the server sent '{min(received)}' with a task, but the site shares no ends")
        for name, tensor in received.items():
            self._tensors[name].copy_(tensor)
        self._begun = {name: tensor.clone() for name, tensor in self._tensors.items()}

    def give(self, task: SiteTask, report: Mapping[str, Any]) -> dict[str, Tensor]:  # noqa: ARG002
        """Return what training has changed, on the CPU.

        Args:
            task: of training, which is done.
            report: of it.
        """
        return {name: (tensor - self._begun[name]).cpu() for name, tensor in self._tensors.items()}
