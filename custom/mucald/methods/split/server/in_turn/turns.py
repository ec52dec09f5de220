"""Which sites do a task at once: all of them, or one after the other on one set of shared networks."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mucald import randomness
from mucald.federation.attendance import Attendance
from mucald.methods.split.algorithms import Algorithm, Memory
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server.capacity import check_memory
from mucald.methods.split.server.endpoint import SplitServer
from mucald.methods.split.server.in_turn.shared_networks import SharedNetworks
from mucald.methods.split.server.in_turn.turn_copy import TurnCopy
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.state.checkpoint import CheckpointStore, with_prefix, without_prefix
from mucald.tasks import Task, get_task

PICK_UP_S = 10.0
"""Seconds that a site which has been away gets to take its task when its turn comes."""


class AtOnce:
    """All sites do a task at once, each with networks of its own at the server.

    Args:
        config: the job.
        sites: the sites that take part.
    """

    grace_s = 0.0

    def __init__(self, config: SplitConfig, sites: Sequence[str]):
        self._config, self._sites = config, list(sites)

    def make_copies(
        self,
        device: torch.device,
        algorithm: Algorithm,
        memory: Memory,
        store: CheckpointStore,
        keeps_start: bool,
    ) -> dict[str, SiteCopy]:
        """Return the server's networks by site.

        Args:
            device, algorithm, memory, keeps_start: those of :class:`.SiteCopy`.
            store: of the run; there lies what the copies do not hold in memory.

        Raises:
            ConfigError: the machine's memory does not suffice.
        """
        check_memory(self._config, self._sites, device)
        arguments = device, algorithm, memory
        return {
            site: self._make_copy(*self._facts(site), *arguments, store.aside(site), keeps_start)
            for site in self._sites
        }

    def _make_copy(self, *arguments: Any) -> SiteCopy:
        return SiteCopy(*arguments)

    def _facts(self, site: str) -> tuple[str, int, SplitConfig, Task]:
        task = get_task(self._config.site(site).task)
        return site, list(self._config.sites).index(site), self._config, task

    def open(self, round_number: int, server: SplitServer, attendance: Attendance) -> None:
        """Begin a task: from now on the messages of the sites that may work at once are accepted."""
        attendance.begin(self._sites)
        server.open_round(round_number, self._sites)

    def turns(self, round_number: int, server: SplitServer, attendance: Attendance) -> Iterator[list[str]]:  # noqa: ARG002
        """Yield groups of sites, each to be done before the next is asked for."""
        yield self._sites

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds beside the copies."""
        return {}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned; to be called before the copies are restored."""


class InTurn(AtOnce):
    """The sites train one after the other, all on one set of the shared networks.

    A turn is a site's whole task. The order is drawn anew for every round. A site that fails in its turn, or
    is silent, leaves the shared networks as they were before it.
    """

    grace_s = PICK_UP_S

    def __init__(self, config: SplitConfig, sites: Sequence[str]):
        super().__init__(config, sites)
        self._shared = SharedNetworks()
        self._copies: dict[str, TurnCopy] = {}

    def _make_copy(self, *arguments: Any) -> SiteCopy:
        copy = TurnCopy(self._shared, *arguments)
        self._copies[copy.site] = copy
        return copy

    def order(self, round_number: int) -> list[str]:
        """Return the sites in the order of their turns, which the job's seed and the round decide."""
        draws = randomness.generator(self._config.seed, "server", round_number, "turns")
        return [self._sites[number] for number in draws.permutation(len(self._sites))]

    def open(self, round_number: int, server: SplitServer, attendance: Attendance) -> None:
        """Begin a task; messages are accepted from a site's turn on."""
        attendance.begin([])
        server.open_round(round_number, [])
        best = {copy.best_round for copy in self._copies.values()}
        self._shared.begin_round(round_number, {number for number in best if number is not None})

    def turns(self, round_number: int, server: SplitServer, attendance: Attendance) -> Iterator[list[str]]:
        """Yield one site after the other."""
        for site in self.order(round_number):
            copy = self._copies[site]
            self._shared.begin_turn(copy.optimiser)
            attendance.begin([site])
            server.open_round(round_number, [site])
            yield [site]
            # Its last step is done before the next site's first.
            server.close(site)
            self._shared.end_turn(copy.optimiser)
            copy.rest()

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds beside the copies: the shared networks."""
        return with_prefix("shared", self._shared.state())

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`state` returned; to be called before the copies are restored."""
        self._shared.load_state(without_prefix("shared", tensors))


def turns_of(config: SplitConfig, sites: Sequence[str], algorithm: Algorithm) -> AtOnce:
    """Return who works when under a job's algorithm."""
    return (InTurn if algorithm.in_turn else AtOnce)(config, sites)
