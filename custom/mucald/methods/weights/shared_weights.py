"""Weights that some sites share: all of a job, or those of one group or modality."""

from collections.abc import Sequence

import torch

from mucald import randomness
from mucald.aggregation.parts import clusters, clusters_from_tensors, clusters_to_tensors
from mucald.errors import ConfigError
from mucald.federation.method import State
from mucald.methods.weights.algorithms import make_algorithm
from mucald.methods.weights.algorithms.base import Algorithm, Update
from mucald.methods.weights.algorithms.fedavg import FedAvg
from mucald.methods.weights.config import Part, WeightsConfig
from mucald.methods.weights.parts import shared_tensors
from mucald.nets.whole import WholePlan, whole_plan
from mucald.state.averages import total_norm
from mucald.state.checkpoint import with_prefix, without_prefix
from mucald.tasks import Task, get_task, shared_classes

ALL = "shared"
"""Name of what all sites share."""


class SharedWeights:
    """Weights of some parts of a network, which certain sites train together.

    Args:
        name: what it is called in progress and among the model files.
        sites: those that share it.
        weights: what the first round begins with, by name.
        algorithm: combines what they have changed.
        of_modality: whether these are the sites of a modality, which later ones may begin with.

    Attributes:
        weights: what each site begins the next round with; sites that share all have the same object.
    """

    def __init__(
        self, name: str, sites: Sequence[str], weights: State, algorithm: Algorithm, of_modality: bool = False
    ):
        # Sorted, so that nothing depends on the order of the job's file.
        self.name, self.weights = name, dict.fromkeys(sorted(sites), weights)
        self._algorithm, self.of_modality = algorithm, of_modality
        self._memory: State = {}

    def to(self, device: torch.device) -> "SharedWeights":
        """Move the weights to a device, and return them."""
        first = {name: tensor.to(device) for name, tensor in next(iter(self.weights.values())).items()}
        self.weights = dict.fromkeys(self.weights, first)
        return self

    def combine(self, updates: Sequence[Update]) -> float:
        """Move the weights by what the sites have changed; return how far, the mean over clusters."""
        combined = self._algorithm.combine(self.weights, updates, self._memory)
        moved = [
            total_norm(state[name] - tensor for name, tensor in self.weights[members[0]].items())
            for members, state in clusters(combined)
        ]
        self.weights = combined
        return sum(moved) / len(moved)

    def clusters(self) -> list[tuple[tuple[str, ...], State]]:
        """Return who has the same weights, in order of name, and these weights."""
        return clusters(self.weights)

    def state(self) -> State:
        """Return the weights and the algorithm's memory."""
        return clusters_to_tensors(self.weights) | with_prefix("memory", self._memory)

    def load_state(self, tensors: State) -> None:
        """Restore what :meth:`state` returned."""
        self.weights = clusters_from_tensors(self.weights, tensors)
        self._memory = without_prefix("memory", tensors)


def shared_between(config: WeightsConfig, sites: Sequence[str]) -> list[SharedWeights]:
    """Return what the sites of a job share: what all do, what each group does, and what each modality does.

    Raises:
        ConfigError: sites cannot share a part, for it differs with their tasks.
    """
    algorithm = make_algorithm(config.algorithm)
    found = [(ALL, tuple(sites), config.shared, algorithm, False)] if config.shared else []
    for members in sorted({config.group(site) for site in sites} - {()}):
        first = config.site(members[0])
        if config.shared_in_group:
            name = f"group-{first.group or first.task}"
            found.append((name, members, config.shared_in_group, algorithm, False))
    for name, members in config.modalities(sites).items() if config.shared_in_modality else ():
        found.append((f"modality-{name}", members, config.shared_in_modality, FedAvg(), True))
    return [
        SharedWeights(name, sharing, first_weights(config, parts, sharing), by, of_modality)
        for name, sharing, parts, by, of_modality in found
    ]


def first_weights(config: WeightsConfig, parts: Sequence[Part], sites: Sequence[str]) -> State:
    """Return what travels of ``parts`` as the first round begins with it; the job's seed decides it.

    Raises:
        ConfigError: a part differs with the sites' tasks.
    """
    plan, algorithm = whole_plan(config.network, config.clip), make_algorithm(config.algorithm)
    tasks, tensors = {site: get_task(config.site(site).task) for site in sites}, State()
    for part in parts:
        if part == plan.private and algorithm.shares_heads:
            shared_classes({site: task.name for site, task in tasks.items()})
        first, *others = {plan.kind(part, task): site for site, task in reversed(tasks.items())}.values()
        tensors |= (own := _travelling(config, plan, part, tasks[first]))
        for site in others:
            if _shapes(_travelling(config, plan, part, tasks[site])) != _shapes(own):
                raise ConfigError(
                    f"the {part.replace('_', ' ')} of site '{site}' ({tasks[site].name}) is unlike that of "
                    f"'{first}' ({tasks[first].name}), so they cannot share it; take it out of what the job "
                    "shares between them"
                )
    return tensors


def _travelling(config: WeightsConfig, plan: WholePlan, part: Part, task: Task) -> State:
    with randomness.seeded_initialisation(config.seed, part):
        module = plan.part(part, task)
    tensors = shared_tensors({part: module}, [part], make_algorithm(config.algorithm))
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _shapes(tensors: State) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}
