"""The server's half of split learning, as the engine sees it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from mucald.federation.method import Contributor, Notes, Saved, ServerContext, ServerMethod, State
from mucald.federation.report import ReportField
from mucald.federation.schedule import AtOnce, InTurn
from mucald.federation.task import SiteTask
from mucald.methods.split.algorithms import algorithm_of
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server.aggregator import Aggregator
from mucald.methods.split.server.capacity import check_memory
from mucald.methods.split.server.discriminators import Discriminators
from mucald.methods.split.server.endpoint import SplitServer
from mucald.methods.split.server.shared_networks import CopyPlan
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.methods.split.server.state_choice import StateChoice
from mucald.state.checkpoint import with_prefix, without_prefix
from mucald.wire.recorder import open_recorder


class SplitServerMethod(ServerMethod):
    """A copy of the server's networks for each site, what joins them, and the wire's end.

    Args:
        config: the job.
        sites: the sites that take part.
        context: what the engine gives beside the job.

    Raises:
        ConfigError: the machine's memory does not suffice, or parts of the job do not fit each other.
    """

    report_fields: ClassVar[Mapping[str, ReportField]] = {
        "server_contribution": ReportField("test"),
        "pretraining": ReportField("train", needed=False),
        "handover": ReportField("test", needed=False),
        "through_server": ReportField("test", needed=False),
    }

    def __init__(self, config: SplitConfig, sites: Sequence[str], context: ServerContext):
        self._config, algorithm = config, algorithm_of(config)
        self.schedule = InTurn(config.seed) if algorithm.in_turn else AtOnce()
        self._aggregator = Aggregator(config, algorithm)
        check_memory(config, algorithm, sites, context.device)
        self._plan = CopyPlan(
            config,
            algorithm,
            self._aggregator.needs_start,
            context.device,
            self._aggregator.algorithm_state,
        )
        self.copies = {site: SiteCopy(site, self._plan, context.store.scratch(site)) for site in sites}
        self._aggregator.check(list(self.copies.values()))
        self._discriminators = Discriminators(config, context.device)
        self.server = SplitServer(
            config,
            algorithm,
            self.copies,
            self._discriminators.modules,
            open_recorder(config, context.run_id, context.run_folder),
            context.attendance,
        )
        self._trains = True

    def begin_round(self, round_number: int) -> None:
        """Begin a task; messages are accepted from a site's turn on."""
        self.server.open_round(round_number, [])
        self._aggregator.groups.forget()
        self._trains = round_number < self._config.training.rounds
        best = {copy.best.round for copy in self.copies.values()}
        self._plan.shared.begin_round(round_number, {number for number in best if number is not None})

    def begin_turn(self, round_number: int, sites: Sequence[str]) -> None:
        """Accept the messages of ``sites``."""
        for site in sites:
            self.copies[site].begin_turn()
        self.server.open_round(round_number, sites)

    def end_turn(self, sites: Sequence[str]) -> None:
        """Accept nothing more; the last step of ``sites`` is done when this returns."""
        for site in sites:
            self.server.close(site)
            self.copies[site].end_turn()

    def payload(self, site: str, task: SiteTask) -> State:  # noqa: ARG002 - the same with every task
        """Return the front and back end of the site's group, if it shares them."""
        return {name: tensor.cpu() for name, tensor in self._aggregator.groups.ends(site).items()}

    def handle(self, site: str, request: bytes | bytearray | memoryview) -> bytes:
        """Answer one message of a step."""
        return self.server.handle(site, request)

    def receive(self, site: str, reports: Mapping[str, dict[str, Any]], payload: State) -> Notes:
        """Take the change of the ends that the site shares, end its messages, and return what was noted."""
        self.server.close(site)
        if self._trains:
            self._aggregator.groups.take(site, payload)
        else:
            super().receive(site, reports, payload)
        tally = self.copies[site].tally
        numbers = {
            "losses": tally.losses.means(),
            "gradients": tally.gradients.means(),
            "proxy_mse": tally.proxy_error.mean(self._config.release.proxy_noise_std**2),
        }
        return Notes(numbers, tally.choice, tally.seconds, tally.first_step)

    def rewind(self, site: str, saved: Saved | None) -> None:
        """Accept nothing more of a site in this task, forget its change, and take its copy back."""
        self._aggregator.groups.forget(site)
        self.server.close(site, None if saved is None else partial(self.copies[site].load_state, *saved))

    def restart(self, site: str, saved: Saved | None) -> None:
        """Take a site's copy back, and accept its messages from the first on."""
        assert saved is not None
        self.server.restart(site, partial(self.copies[site].load_state, *saved))

    def end_round(self, round_number: int, present: Mapping[str, Contributor]) -> dict[str, Any]:
        """Train the discriminators, then aggregate."""
        contributors = [self.copies[site] for site in present]
        trained = self._discriminators.train(contributors, round_number)
        self._aggregator.end_round(list(self.copies.values()), present)
        parted = self._aggregator.groups.parted()
        return {"discriminators": trained} | ({"clusters": parted} if parted else {})

    def site_parts(self) -> Collection[str]:
        """Return all sites: each has a copy."""
        return self.copies

    def site_state(self, site: str) -> Saved:
        """Return everything that a checkpoint holds of a site's copy."""
        return self.copies[site].state()

    def state(self) -> State:
        """Return everything that a checkpoint holds beside the copies."""
        tensors = with_prefix("discriminators", self._discriminators.state())
        tensors |= with_prefix("aggregator", self._aggregator.state())
        return tensors | with_prefix("shared", self._plan.shared.state())

    def load_state(self, tensors: State, site_parts: Mapping[str, Callable[[], Saved]]) -> None:
        """Restore what :meth:`state` and :meth:`site_state` returned."""
        self._discriminators.load_state(without_prefix("discriminators", tensors))
        self._aggregator.load_state(without_prefix("aggregator", tensors), self._plan.device)
        self._plan.shared.load_state(without_prefix("shared", tensors))
        for site, load in site_parts.items():
            self.copies[site].load_state(*load())
        StateChoice.share_equal(copy.candidates for copy in self.copies.values())

    def models(self) -> Iterator[tuple[str, str, State]]:
        """Yield site, task and weights of each copy, and let it forget what it holds on disk."""
        for site, copy in self.copies.items():
            yield site, copy.task.name, copy.weights()
            copy.discard()
