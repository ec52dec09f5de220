"""The seam between the engine of a run and a family of methods.

Coordinator, participant and FLARE's adapters know what stands here and nothing else of any method.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from mucald.config.job import JobConfig
from mucald.errors import WireError
from mucald.federation.attendance import Attendance
from mucald.federation.report import ReportField
from mucald.federation.schedule import AtOnce, Schedule
from mucald.federation.task import SiteTask
from mucald.metrics.scoring import Previews
from mucald.privacy.disclosure import Disclosure
from mucald.privacy.policy import OPEN, Policy
from mucald.state.checkpoint import CheckpointStore
from mucald.tasks import Task

log = logging.getLogger(__name__)

State = dict[str, Tensor]
Saved = tuple[State, dict[str, Any]]
"""What a checkpoint holds: tensors by name, and JSON beside them."""

Send = Callable[[bytes], bytes]
"""Carries a request to the server and returns its reply; it may repeat one, for steps are idempotent."""


@dataclass(frozen=True)
class Outcome:
    """What a participant sends back when it has done a task.

    Args:
        reports: a report of plain numbers for every site that it answers for, by site.
        payload: tensors that travel beside them, as FLARE's model message.
    """

    reports: dict[str, dict[str, Any]]
    payload: State = field(default_factory=dict)


@dataclass(frozen=True)
class Tested:
    """What stays with the participant that ran a site's test.

    Args:
        site: name of the site.
        task: its task.
        weights: of the networks that the participant holds, in the site's best round.
        previews: example predictions, where the site allows pictures.
        files: what else the participant keeps in its run folder, by file name.
    """

    site: str
    task: Task
    weights: State
    previews: Previews | None
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass
class Notes:
    """What the server noted of a site while it did a task.

    Args:
        numbers: what joins the site's entry of the round; ``losses`` and ``gradients`` join those that the
            site has reported.
        choice: what the site chose of the states that aggregation offered it, see :class:`.Candidates`.
        seconds: that the server worked for the site.
        first_step: when the site's first training step came, on the monotonic clock.
    """

    numbers: dict[str, Any] = field(default_factory=dict)
    choice: dict[str, Any] | None = None
    seconds: float = 0.0
    first_step: float | None = None


@dataclass(frozen=True)
class Contributor:
    """What the engine knows of a site that has done its round.

    Args:
        n_train: number of its training samples.
        validation_loss: its last one; None if it has not validated yet.
    """

    n_train: int
    validation_loss: float | None


@dataclass(frozen=True)
class ServerContext:
    """What a server's half is given beside the job.

    Args:
        run_id: names the run.
        store: the run's checkpoints.
        run_folder: where the run's results go.
        device: where to compute.
        attendance: is told of every step of a site.
    """

    run_id: str
    store: CheckpointStore
    run_folder: Path
    device: torch.device
    attendance: Attendance


class ServerMethod:
    """The server's half of a method. What is here is a method without steps, tensors or state.

    Between :meth:`begin_round` and :meth:`end_round` sites work in the turns of :attr:`schedule`. Calls for
    different sites may come at once, from threads of their own.
    """

    schedule: Schedule = AtOnce()
    report_fields: ClassVar[Mapping[str, ReportField]] = {}
    """What the sites' reports hold beside what those of every method do."""

    loss: str | None = None
    """The loss that the sites' reports must have: None for that of their task, empty for none."""

    def begin_round(self, round_number: int) -> None:
        """Begin a task; no site may work on it yet."""

    def begin_turn(self, round_number: int, sites: Sequence[str]) -> None:
        """Let ``sites`` work on the open task."""

    def end_turn(self, sites: Sequence[str]) -> None:
        """End a turn: all of ``sites`` have answered or are left out."""

    def handle(self, site: str, request: bytes | bytearray | memoryview) -> bytes:
        """Answer one message of a step. A method without steps answers all with nothing."""
        log.warning("site '%s' sent a message, but this job's method has no steps; it is ignored", site)
        return b""

    def payload(self, site: str, task: SiteTask) -> State:
        """Return the tensors that a task brings to a site."""
        return {}

    def receive(self, site: str, reports: Mapping[str, dict[str, Any]], payload: State) -> Notes:
        """Take what a participant has trained; nothing is kept of it if this raises.

        Raises:
            WireError: the payload is not what the method expects of this site.
        """
        if payload:
            raise WireError(f"site '{site}' sent tensors, but this job's method takes none")
        return Notes()

    def rewind(self, site: str, saved: Saved | None) -> None:
        """Accept nothing more of a site in this task; ``saved`` takes it back to where a round began."""

    def restart(self, site: str, saved: Saved | None) -> None:
        """Take a site back to where the open task began, and let it do the task anew."""

    def unfit(self, sites: Sequence[str]) -> dict[str, str]:
        """Return which of the sites that have trained are left out of the round, each with the reason.

        It is asked when all have answered; whom it names is rewound, and no part of :meth:`end_round`.
        """
        return {}

    def end_round(self, round_number: int, present: Mapping[str, Contributor]) -> dict[str, Any]:
        """Combine what the sites have done.

        Args:
            round_number: number of complete rounds before this one.
            present: the sites that have done the round, in the job's order.

        Returns:
            numbers about the round, by name; they join its entry in the results.
        """
        return {}

    def site_parts(self) -> Collection[str]:
        """Return the sites for which a checkpoint of its own is kept."""
        return ()

    def site_state(self, site: str) -> Saved:
        """Return everything that a checkpoint holds of one of :meth:`site_parts`."""
        raise KeyError(site)

    def state(self) -> State:
        """Return everything that a checkpoint holds beside the sites' parts."""
        return {}

    def load_state(self, tensors: State, site_parts: Mapping[str, Callable[[], Saved]]) -> None:
        """Restore what :meth:`state` and :meth:`site_state` returned."""

    def models(self) -> Iterator[tuple[str, str, State]]:
        """Yield site, task and weights of what the server keeps of each site's model; then forget them."""
        yield from ()


class SiteMethod(Protocol):
    """A site's half of a method, or that of a participant which answers for several sites."""

    name: str

    def run(self, task: SiteTask, received: State, send: Send) -> Outcome:
        """Do what the server asks.

        Args:
            task: what is to be done.
            received: the tensors that came with it.
            send: asks the server for a step.

        Raises:
            MucaldError: see the steps; the next task then begins with the last complete round.
        """

    def tested(self) -> list[Tested]:
        """Return what stays here of the test of each site."""

    def account(self) -> dict[str, Any] | None:
        """Return what the run's disclosures can tell, for the site alone; None where nothing leaves."""


@dataclass(frozen=True)
class TrainedModel:
    """All weights of a site's model, and the job that they were trained in.

    Args:
        site: name of the site.
        task: its task.
        config: the job.
        family: the job's family of methods.
        site_weights: ``front_end.…``, ``back_end.…`` and what else the site holds.
        server_weights: the server's part of the model; empty where the site has all of it.
    """

    site: str
    task: Task
    config: JobConfig
    family: "Family"
    site_weights: State
    server_weights: State

    @property
    def description(self) -> str:
        """What the network is, in words."""
        return self.family.description(self.config)

    def network(self) -> nn.Module:
        """Return the whole network: logits (B, C, S, S) for images (B, 3, S, S) in [0, 1]."""
        return self.family.network(self)


class Family(Protocol):
    """A family of methods: what the engine asks of its package."""

    @property
    def config(self) -> type[JobConfig]:
        """The family's configuration."""

    @property
    def takes_sites_in(self) -> bool:
        """Whether sites may join when rounds are over."""

    def participants(self, config: Any) -> list[str]:
        """Return who takes part in a job; in most the sites themselves."""

    def members(self, config: Any, participant: str) -> tuple[str, ...]:
        """Return the sites that a participant answers for."""

    def check(self, config: Any, participants: Sequence[str]) -> None:
        """Check that those who take part fit the job.

        Raises:
            ConfigError: they do not.
        """

    def warnings(self, config: Any) -> list[str]:
        """Return what is to be said of a job before it begins: what it lets others see."""

    def takes_steps(self, config: Any) -> bool:
        """Return whether sites at work send messages, so that silence tells of a fault."""

    def server(self, config: Any, sites: Sequence[str], context: ServerContext) -> ServerMethod:
        """Build the server's half.

        Raises:
            ConfigError: the job cannot run.
        """

    def site(
        self, name: str, config: Any, home: Path, policy: Policy, store: CheckpointStore, device: torch.device
    ) -> SiteMethod:
        """Build a participant's half; its ``policy`` allows all that the job discloses.

        Raises:
            DataError: a data file or an image is wrong.
            ConfigError: the job does not fit the site's task or its data.
            PolicyError: the policy of a site that the participant answers for is wrong.
        """

    def network(self, model: TrainedModel) -> nn.Module:
        """Return a trained model as one network, logits (B, C, S, S) for images (B, 3, S, S) in [0, 1]."""

    def description(self, config: Any) -> str:
        """Return in words what :meth:`network` returns."""

    def server_keeps_models(self, config: Any) -> bool:
        """Return whether a site's model has a part that only the server has."""

    def disclosures(self, config: Any, policy: Policy = OPEN, images_per_case: int = 1) -> list[Disclosure]:
        """Return all that a job lets leave a site; nothing else may.

        The engine holds it against the site's policy before it builds the site.

        Args:
            config: the job.
            policy: of the site; some bounds the site keeps by itself, whatever the job asks.
            images_per_case: most images of a patient; 1 where that is not known.
        """
