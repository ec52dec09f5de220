"""The server's half of sharing weights: it holds what is shared, checks what comes, and combines it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from mucald import randomness
from mucald.errors import ConfigError
from mucald.federation.method import Contributor, Notes, Saved, ServerContext, ServerMethod, State
from mucald.federation.task import SiteTask
from mucald.methods.weights.algorithm import Update
from mucald.methods.weights.algorithms import make_algorithm
from mucald.methods.weights.config import WeightsConfig
from mucald.methods.weights.parts import shared_tensors
from mucald.nets import back_end_of, backbone_of
from mucald.state.averages import total_norm
from mucald.state.checkpoint import module_tensors, with_prefix, without_prefix
from mucald.tasks import get_task
from mucald.wire.tensors import check_tensors

MODEL = "shared"
"""Name of the server's model file."""


class WeightsServer(ServerMethod):
    """Sends the shared weights with every task, and takes their changes.

    Args:
        config: the job.
        sites: the sites that take part.
        context: what the engine gives beside the job.

    Raises:
        ConfigError: sites cannot share what the job shares, or the network does not exist.
    """

    def __init__(self, config: WeightsConfig, sites: Sequence[str], context: ServerContext):
        self._config, self._algorithm = config, make_algorithm(config.algorithm)
        initial = first_weights(config, n_classes_of(config, sites))
        self._weights = {name: tensor.to(context.device) for name, tensor in initial.items()}
        self._memory: State = {}
        self._changes: dict[str, State] = {}
        self._trains = True

    def begin_round(self, round_number: int) -> None:
        """Forget what came for the task before."""
        self._changes, self._trains = {}, round_number < self._config.training.rounds

    def payload(self, site: str, task: SiteTask) -> State:  # noqa: ARG002 - all get the same
        """Return the shared weights."""
        return {name: tensor.cpu() for name, tensor in self._weights.items()}

    def receive(self, site: str, reports: Mapping[str, dict[str, Any]], payload: State) -> Notes:
        """Take the change of the shared weights, which a test does not bring."""
        if not self._trains:
            return super().receive(site, reports, payload)
        check_tensors(payload, self._weights, f"site '{site}'")
        self._changes[site] = payload
        return Notes()

    def rewind(self, site: str, saved: Saved | None) -> None:  # noqa: ARG002 - nothing is kept per site
        """Forget what came of a site."""
        self._changes.pop(site, None)

    def end_round(self, round_number: int, present: Mapping[str, Contributor]) -> dict[str, Any]:  # noqa: ARG002
        """Combine the changes; return how far the shared weights have moved."""
        updates = [
            Update(site, self._changes[site], contributor.n_train, contributor.validation_loss)
            for site, contributor in present.items()
        ]
        combined = self._algorithm.combine(self._weights, updates, self._memory)
        moved = total_norm(combined[name] - tensor for name, tensor in self._weights.items())
        self._weights, self._changes = combined, {}
        return {"update_norm": {"shared": moved}}

    def state(self) -> State:
        """Return the shared weights and the algorithm's memory."""
        return with_prefix("weights", self._weights) | with_prefix("memory", self._memory)

    def load_state(self, tensors: State, site_parts: Mapping[str, Callable[[], Saved]]) -> None:  # noqa: ARG002
        """Restore what :meth:`state` returned."""
        device, weights = next(iter(self._weights.values())).device, without_prefix("weights", tensors)
        # In the order of the network, so that sums over tensors are those of a run that was never stopped.
        self._weights = {name: weights[name].to(device) for name in self._weights}
        self._memory = {n: tensor.to(device) for n, tensor in without_prefix("memory", tensors).items()}

    def models(self) -> Iterator[tuple[str, str, State]]:
        """Yield the shared weights, which belong to no site's task."""
        yield MODEL, "", self._weights


def n_classes_of(config: WeightsConfig, sites: Sequence[str]) -> int | None:
    """Return how many classes the shared back end has; None where back ends are private.

    Raises:
        ConfigError: the sites' tasks have not equally many.
    """
    if "back_end" not in config.shared:
        return None
    counts = {site: get_task(config.site(site).task).n_classes for site in sites}
    if len(set(counts.values())) > 1:
        raise ConfigError(f"sites that share a back end need equally many classes, not {counts}")
    return next(iter(counts.values()))


def first_weights(config: WeightsConfig, n_classes: int | None) -> State:
    """Return the shared weights that the first round begins with; the job's seed decides them."""
    backbone = backbone_of(config.network)
    modules: dict[str, nn.Module] = {}
    for part in config.shared:
        with randomness.seeded_initialisation(config.seed, part):
            if part == "back_end":
                assert n_classes is not None
                modules[part] = back_end_of(config.network, n_classes)
            else:
                modules[part] = backbone.front_end() if part == "front_end" else backbone.middle()
    return {name: t.detach() for name, t in shared_tensors(module_tensors(modules), config.shared).items()}
