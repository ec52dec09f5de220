"""Weights that some sites share: all of a job, or those of one group."""

from collections.abc import Sequence

import torch
from torch import nn

from mucald import randomness
from mucald.federation.method import State
from mucald.methods.weights.algorithm import Algorithm, Update
from mucald.methods.weights.config import Part, WeightsConfig
from mucald.methods.weights.parts import shared_tensors
from mucald.nets import back_end_of, backbone_of
from mucald.state.averages import total_norm
from mucald.state.checkpoint import module_tensors, with_prefix, without_prefix
from mucald.tasks import shared_classes

ALL = "shared"
"""Name of what all sites share."""


class SharedWeights:
    """Weights of some parts of a network, which certain sites train together.

    Args:
        name: what it is called in progress and among the model files.
        sites: those that share it.
        weights: what the first round begins with, by name.
    """

    def __init__(self, name: str, sites: Sequence[str], weights: State):
        self.name, self.sites, self.weights = name, frozenset(sites), weights
        self._memory: State = {}

    def to(self, device: torch.device) -> "SharedWeights":
        """Move the weights to a device, and return them."""
        self.weights = {name: tensor.to(device) for name, tensor in self.weights.items()}
        return self

    def combine(self, algorithm: Algorithm, updates: Sequence[Update]) -> float:
        """Move the weights by what the sites have changed; return how far."""
        combined = algorithm.combine(self.weights, updates, self._memory)
        moved = total_norm(combined[name] - tensor for name, tensor in self.weights.items())
        self.weights = combined
        return moved

    def state(self) -> State:
        """Return the weights and the algorithm's memory."""
        return with_prefix("weights", self.weights) | with_prefix("memory", self._memory)

    def load_state(self, tensors: State) -> None:
        """Restore what :meth:`state` returned."""
        device, weights = next(iter(self.weights.values())).device, without_prefix("weights", tensors)
        # In the order of the network, so that sums over tensors are those of a run that was never stopped.
        self.weights = {name: weights[name].to(device) for name in self.weights}
        self._memory = {n: tensor.to(device) for n, tensor in without_prefix("memory", tensors).items()}


def shared_between(config: WeightsConfig, sites: Sequence[str]) -> list[SharedWeights]:
    """Return what the sites of a job share: what all do, and what each group does.

    Raises:
        ConfigError: sites cannot share a back end.
    """
    found = [(ALL, tuple(sites), config.shared)] if config.shared else []
    for members in sorted({config.group(site) for site in sites} - {()}):
        first = config.site(members[0])
        if config.shared_in_group:
            found.append((f"group-{first.group or first.task}", members, config.shared_in_group))
    return [
        SharedWeights(name, sharing, first_weights(config, parts, sharing)) for name, sharing, parts in found
    ]


def first_weights(config: WeightsConfig, parts: Sequence[Part], sites: Sequence[str]) -> State:
    """Return the weights of ``parts`` that the first round begins with; the job's seed decides them.

    Raises:
        ConfigError: a back end is among them, and the sites' tasks have not equally many classes.
    """
    backbone, modules = backbone_of(config.network), dict[str, nn.Module]()
    for part in parts:
        with randomness.seeded_initialisation(config.seed, part):
            if part == "back_end":
                modules[part] = back_end_of(
                    config.network, shared_classes({s: config.site(s).task for s in sites})
                )
            else:
                modules[part] = backbone.front_end() if part == "front_end" else backbone.middle()
    tensors = shared_tensors(module_tensors(modules), parts)
    return {name: tensor.detach() for name, tensor in tensors.items()}
