"""How the workflow waits for a round's answers."""

from collections.abc import Iterator
from unittest.mock import MagicMock

import pytest
import torch
from nvflare.apis.controller_spec import Task, TaskCompletionStatus
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from mucald.errors import WireError
from mucald.federation.method import Outcome, State
from mucald.federation.task import SiteTask
from mucald.flare.controller import FederationController
from mucald.flare.protocol import (
    REASON,
    failure_to_shareable,
    outcome_to_shareable,
    task_from_shareable,
    task_to_shareable,
)


class FakeCoordinator:
    """Leaves out a site at the second look; the others answer at the fourth."""

    def __init__(self) -> None:
        self.awaited, self.looks = ["north", "south"], 0

    def leave_out_silent(self) -> list[str]:
        self.looks += 1
        if self.looks == 2:
            self.awaited.remove("south")
            return ["south"]
        if self.looks == 4:
            self.awaited.remove("north")
        return []


class Waiting(FederationController):
    """A controller without FLARE's machinery behind it."""

    def cancel_task(self, task, completion_status=TaskCompletionStatus.CANCELLED, fl_ctx=None):
        del fl_ctx
        task.completion_status = completion_status


def wait(coordinator: FakeCoordinator, abort: Signal, monkeypatch) -> Task:
    monkeypatch.setattr("mucald.flare.controller._POLL_S", 0)
    task = Task("train", Shareable())
    Waiting()._wait(coordinator, [task], abort)
    return task


def test_a_round_ends_when_all_but_the_silent_sites_have_answered(monkeypatch):
    coordinator = FakeCoordinator()
    task = wait(coordinator, Signal(), monkeypatch)
    assert task.completion_status == TaskCompletionStatus.CANCELLED
    assert coordinator.looks == 4


def test_a_round_without_a_silent_site_ends_when_flare_says_so(monkeypatch):
    class Answered(FakeCoordinator):
        def leave_out_silent(self) -> list[str]:
            self.looks += 1
            self.awaited = []
            if self.looks == 3:
                task.completion_status = TaskCompletionStatus.OK
            return []

    monkeypatch.setattr("mucald.flare.controller._POLL_S", 0)
    task, coordinator = Task("train", Shareable()), Answered()
    Waiting()._wait(coordinator, [task], Signal())
    assert task.completion_status == TaskCompletionStatus.OK
    assert coordinator.looks == 3


def test_an_aborted_job_waits_no_longer(monkeypatch):
    abort = Signal()
    abort.trigger("stop")
    assert wait(FakeCoordinator(), abort, monkeypatch).completion_status == TaskCompletionStatus.ABORTED


class InTurn:
    """Lets two sites work one after the other; the second does not answer."""

    def __init__(self) -> None:
        self.log: list[tuple[str, object]] = []
        self.awaited: list[str] = []

    def open(self, task: SiteTask) -> None:
        self.log.append(("open", task.round))

    def turns(self) -> Iterator[list[str]]:
        for site in ("south", "north"):
            self.awaited = [site]
            yield [site]
            assert self.awaited == [], "the turn is over"

    def payload(self, site: str, task: SiteTask) -> State:
        return {"owner": torch.tensor(len(site) + task.round)}

    def leave_out_silent(self) -> list[str]:
        return []

    def fail(self, site: str, reason: str) -> None:
        self.awaited.remove(site)
        self.log.append((site, reason))


class HandingOut(Waiting):
    """Notes whom a task goes to; the first site answers, FLARE gives the second up."""

    def broadcast(self, task, fl_ctx, targets=None, min_responses=0, **rest):  # noqa: ARG002
        self.coordinator.log.append(("broadcast", (targets, min_responses)))
        self.brought.append(task_from_shareable(task.name, task.data)[1]["owner"].item())
        if targets == ["south"]:
            self.coordinator.awaited.clear()
        task.completion_status = TaskCompletionStatus.OK


@pytest.mark.parametrize("aborted", [False, True])
def test_where_sites_take_turns_a_task_goes_to_one_after_the_other(aborted):
    controller, abort = HandingOut(), Signal()
    controller.coordinator, controller._task_timeout, controller.brought = InTurn(), 0, []
    if aborted:
        abort.trigger("stop")
    fl_ctx = MagicMock()
    fl_ctx.get_engine().get_cell().get_fqcn.return_value = "server.job"
    controller._run(controller.coordinator, SiteTask("train", 3, "run"), abort, fl_ctx)
    first = [("open", 3), ("broadcast", (["south"], 1))]
    second = [("broadcast", (["north"], 1)), ("north", "no answer; its job process or its host has ended")]
    assert controller.coordinator.log == first + ([] if aborted else second)
    assert controller.brought == [8] * (1 if aborted else 2), "each site's own tensors"


class Taking:
    """Notes what became of an answer."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, str]] = []
        self.received: list[tuple[str, object, State]] = []

    def fail(self, site: str, reason: str) -> None:
        self.failed.append((site, reason))

    def receive(self, site: str, reports: object, payload: State) -> None:
        if reports != {"north": {"n_train": 1}}:
            raise WireError("no report")
        self.received.append((site, reports, payload))


def test_a_report_is_that_of_whom_flare_authenticated_whatever_it_says():
    coordinator, reports = Taking(), {"north": {"n_train": 1}}
    result = outcome_to_shareable(Outcome(reports))
    result.set_header("__identity_name__", "south")
    FederationController._take(coordinator, "north", result)
    assert coordinator.received == [("north", reports, {})]
    wrong = outcome_to_shareable(Outcome({"north": {"n_train": "x"}}))
    FederationController._take(coordinator, "north", wrong)
    assert coordinator.failed == [("north", "no report")]


def test_tensors_come_back_beside_the_reports():
    coordinator, reports, weight = Taking(), {"north": {"n_train": 1}}, torch.arange(3.0)
    FederationController._take(coordinator, "north", outcome_to_shareable(Outcome(reports, {"w": weight})))
    ((_, _, payload),) = coordinator.received
    assert payload.keys() == {"w"}
    assert torch.equal(payload["w"], weight)


def test_what_comes_in_the_place_of_a_tensor_fails_the_site():
    coordinator = Taking()
    result = outcome_to_shareable(Outcome({"north": {"n_train": 1}}, {"w": "no tensor"}))
    FederationController._take(coordinator, "north", result)
    assert coordinator.failed == [("north", "'w' is a str and no tensor")]


def test_a_sites_reason_for_failing_is_one_line_of_bounded_length():
    coordinator = Taking()
    FederationController._take(coordinator, "north", failure_to_shareable(WireError("the line is cut")))
    forged = "cut\n2026-01-01 - ERROR - a line of the log's own " + "x" * 5000
    FederationController._take(
        coordinator, "south", make_reply(ReturnCode.EXECUTION_EXCEPTION, {REASON: forged})
    )
    assert coordinator.failed[0] == ("north", "the line is cut")
    assert "\n" not in coordinator.failed[1][1]
    assert len(coordinator.failed[1][1]) == 1000


def test_a_task_survives_the_way_to_a_site():
    task = SiteTask("train", 4, "run-1", ("west",), {"south": 2})
    shareable = task_to_shareable(task, {"w": torch.arange(3.0)}, "server.job")
    received, tensors, server = task_from_shareable("train", shareable)
    assert (received, server) == (task, "server.job")
    assert torch.equal(tensors["w"], torch.arange(3.0))
    assert task_from_shareable("test", task_to_shareable(task, {}, "server.job"))[1] == {}
    with pytest.raises(WireError, match="a task 'tset', which this version does not know"):
        task_from_shareable("tset", shareable)
    assert [received.is_new(site) for site in ("north", "south", "west")] == [False, False, True]
    assert [received.counted(site) for site in ("north", "south")] == [4, 2]
