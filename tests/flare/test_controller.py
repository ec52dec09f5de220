"""How the workflow waits for a round's answers."""

from nvflare.apis.controller_spec import Task, TaskCompletionStatus
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from mucald.flare.controller import SplitFedController


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


class Waiting(SplitFedController):
    """A controller without FLARE's machinery behind it."""

    def cancel_task(self, task, completion_status=TaskCompletionStatus.CANCELLED, fl_ctx=None):
        del fl_ctx
        task.completion_status = completion_status


def wait(coordinator: FakeCoordinator, abort: Signal, monkeypatch) -> Task:
    monkeypatch.setattr("mucald.flare.controller._POLL_S", 0)
    task = Task("train", Shareable())
    Waiting()._wait(coordinator, task, abort)
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
    Waiting()._wait(coordinator, task, Signal())
    assert task.completion_status == TaskCompletionStatus.OK
    assert coordinator.looks == 3


def test_an_aborted_job_waits_no_longer(monkeypatch):
    abort = Signal()
    abort.trigger("stop")
    assert wait(FakeCoordinator(), abort, monkeypatch).completion_status == TaskCompletionStatus.ABORTED
