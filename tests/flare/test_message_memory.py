"""What FLARE's messages of tensors leave behind is freed once a round, by the server and by the sites."""

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
from nvflare.apis.signal import Signal

from mucald.federation.method import Outcome
from mucald.federation.task import SiteTask
from mucald.flare import memory
from mucald.flare.controller import FederationController
from mucald.flare.executor import MethodExecutor
from mucald.flare.protocol import task_to_shareable

TASK = SiteTask("train", 0, "run")


@pytest.fixture(autouse=True)
def by_hand() -> Iterator[None]:
    """Let nothing but the code under test look for garbage."""
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


class Message:
    """Holds itself and a tensor, as FLARE's messages do in a way."""

    def __init__(self) -> None:
        self.own, self.tensor = self, torch.zeros(3)


def left_behind() -> weakref.ref:
    return weakref.ref(Message().tensor)


def test_tensors_in_cycles_are_freed():
    tensor = left_behind()
    assert tensor() is not None
    memory.release()
    assert tensor() is None


def test_what_was_there_at_the_start_is_looked_through_no_more():
    memory.settle()
    assert gc.get_freeze_count() > 100 * len(gc.get_objects())


class Rounds:
    """A coordinator of two rounds, whose messages nobody needs any more when they are closed."""

    def __init__(self) -> None:
        self.left: list[weakref.ref] = []

    def tasks(self) -> Iterator[SiteTask]:
        for _ in range(2):
            yield TASK

    def close(self, task: SiteTask) -> None:  # noqa: ARG002
        self.left.append(left_behind())

    def finish(self) -> None:
        pass


@pytest.mark.parametrize("tensors", [True, False])
def test_the_server_frees_them_when_it_closes_a_round_that_brought_some(tensors):
    class Running(FederationController):
        def _run(self, *_) -> None:
            self._sent_tensors |= tensors

    controller = Running()
    controller._coordinator = rounds = Rounds()
    controller.control_flow(Signal(), MagicMock())
    assert [tensor() is None for tensor in rounds.left] == [tensors] * 2


@pytest.mark.parametrize("brought", [{"w": torch.zeros(2)}, {}])
def test_a_site_frees_them_before_it_answers_a_task_that_brought_some(brought, monkeypatch):
    left = []

    def run(*_) -> Outcome:
        left.append(left_behind())
        return Outcome({"north": {}})

    runtime = SimpleNamespace(threads=torch.get_num_threads(), step_timeout_s=1.0)
    monkeypatch.setattr("mucald.flare.executor.job_config", lambda _: SimpleNamespace(runtime=runtime))
    executor = MethodExecutor()
    executor._sites = {TASK.run_id: SimpleNamespace(run=run)}
    executor._execute("train", task_to_shareable(TASK, brought, "server.job"), MagicMock(), Signal())
    assert (left[0]() is None) is bool(brought)
