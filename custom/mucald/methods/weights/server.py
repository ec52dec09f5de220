"""The server's half of sharing weights: it holds what is shared, checks what comes, and combines it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from mucald.federation.method import Contributor, Notes, Saved, ServerContext, ServerMethod, State
from mucald.federation.report import ReportField
from mucald.federation.task import SiteTask
from mucald.methods.weights.algorithms.base import Update
from mucald.methods.weights.config import WeightsConfig
from mucald.methods.weights.cross_site import SiteNetworks, split_off
from mucald.methods.weights.joining import begin_with, take_in
from mucald.methods.weights.outliers import too_large
from mucald.methods.weights.parts import without_parts
from mucald.methods.weights.shared_weights import shared_between
from mucald.results.history import ADDED
from mucald.state.checkpoint import with_prefix, without_prefix
from mucald.wire.tensors import check_tensors


class WeightsServer(ServerMethod):
    """Sends each site the weights that it shares with every task, and takes their changes.

    Args:
        config: the job.
        sites: the sites that take part.
        context: what the engine gives beside the job.

    Raises:
        ConfigError: sites cannot share what the job shares, or the network does not exist.
    """

    report_fields: ClassVar[Mapping[str, ReportField]] = {
        "after_training": ReportField("train"),
        "cross_site": ReportField("test", needed=False),
    }

    def __init__(self, config: WeightsConfig, sites: Sequence[str], context: ServerContext):
        self._config = config
        self._shared = [shared.to(context.device) for shared in shared_between(config, sites)]
        self._changes: dict[str, State] = {}
        self._held: dict[str, Collection[str]] = {}
        self._networks = SiteNetworks(config)
        self._known: set[str] = set()
        if config.begin_with is not None:
            self._known = begin_with(self._shared, config, context.store.folder.parent / config.begin_with)
        self._trains = True

    def begin_round(self, round_number: int) -> None:
        """Forget what came for the task before, and make ready what sites begin with that join now."""
        self._changes, self._trains = {}, round_number < self._config.training.rounds
        if round_number > 0:
            config = self._config
            late = [name for name, site in config.sites.items() if site.joins_at_round == round_number]
            take_in(self._shared, late, config.joined(config.sites, round_number - 1))

    def payload(self, site: str, task: SiteTask) -> State:
        """Return the weights that a site shares; a test gets the same, and the networks that it tests."""
        self._held[site] = ()
        if task.is_new(site):
            self._held[site] = self._config.held(site, site in self._added())
        weights = {name: tensor.cpu() for name, tensor in self._weights_of(site).items()}
        return weights if task.kind == "train" else weights | self._networks.for_site(site)

    def receive(self, site: str, reports: Mapping[str, dict[str, Any]], payload: State) -> Notes:
        """Take the change of the shared weights, and in the last round perhaps the whole network.

        A test brings neither.
        """
        if not self._trains:
            return super().receive(site, reports, payload)
        payload, network = split_off(payload)
        if network:
            self._networks.take(site, network)
        expected = without_parts(self._weights_of(site), self._held.get(site, ()))
        check_tensors(payload, expected, f"site '{site}'")
        self._changes[site] = payload
        return Notes()

    def unfit(self, sites: Sequence[str]) -> dict[str, str]:
        """Return the sites whose change is far larger than the others', see :func:`.too_large`."""
        return too_large({site: self._changes[site] for site in sites})

    def rewind(self, site: str, saved: Saved | None) -> None:  # noqa: ARG002 - nothing is kept per site
        """Forget what came of a site."""
        self._changes.pop(site, None)
        self._networks.forget(site)

    def end_round(self, round_number: int, present: Mapping[str, Contributor]) -> dict[str, Any]:
        """Combine the changes; return how far each of the shared weights have moved, and who has parted."""
        moved = {}
        for shared in self._shared:
            updates = [
                Update(site, self._changes[site], contributor.n_train, contributor.validation_loss)
                for site, contributor in present.items()
                if site in shared.weights
            ]
            if updates:
                moved[shared.name] = shared.combine(updates)
        self._changes = {}
        return {"update_norm": moved} | self._notes(round_number)

    def _notes(self, round_number: int) -> dict[str, Any]:
        """Return between whom weights have parted, and in the first round who was added, where that is so."""
        clusters = {shared.name: len(shared.clusters()) for shared in self._shared}
        notes = {
            "clusters": {name: number for name, number in clusters.items() if number > 1},
            ADDED: self._added() if round_number == 0 else [],
        }
        return {name: note for name, note in notes.items() if note}

    def state(self) -> State:
        """Return the shared weights and the algorithm's memory."""
        tensors = with_prefix("networks", self._networks.state())
        # Numbers rather than names, which may hold the dots that separate prefixes.
        for number, shared in enumerate(self._shared):
            tensors |= with_prefix(f"{number}", shared.state())
        return tensors

    def load_state(self, tensors: State, site_parts: Mapping[str, Callable[[], Saved]]) -> None:  # noqa: ARG002
        """Restore what :meth:`state` returned."""
        self._networks.load_state(without_prefix("networks", tensors))
        for number, shared in enumerate(self._shared):
            shared.load_state(without_prefix(f"{number}", tensors))

    def models(self) -> Iterator[tuple[str, str, State]]:
        """Yield the shared weights, which belong to no site's task; by site where sites have parted."""
        for shared in self._shared:
            clusters = shared.clusters()
            if len(clusters) == 1:
                yield shared.name, "", clusters[0][1]
            else:
                yield from ((f"{shared.name}-{site}", "", state) for site, state in shared.weights.items())

    def _added(self) -> list[str]:
        """Return the sites that the earlier run which this one begins with had not; none without one."""
        return sorted(self._config.sites.keys() - self._known) if self._known else []

    def _weights_of(self, site: str) -> State:
        return {
            name: tensor
            for shared in self._shared
            if site in shared.weights
            for name, tensor in shared.weights[site].items()
        }
