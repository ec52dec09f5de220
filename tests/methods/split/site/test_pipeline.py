"""Messages that a thread sends beside the site's own work, in the order that the depth fixes."""

import json
import threading
from collections import defaultdict

import pytest
import torch
from fragile_line import killed_after, run_restarting
from in_turn import InTurn
from recording import Recording, record_run
from tiny_job import Federation, Run, equal_models, run_job, tiny_config
from torch import Tensor

from mucald.errors import WireError
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.methods.split.site import once as once_site
from mucald.methods.split.site.pipeline import Pipeline
from mucald.methods.split.wire.messages import Phase, decode

LETTERS = {Phase.TRAIN_FORWARD_RELEASED: "F", Phase.TRAIN_BACKWARD_RELEASED: "B"}
# Five steps per round, the last of one image; running statistics would show a pass too many.
ONCE = {
    "release": {"mode": "once", "pretraining_epochs": 1},
    "data": {"phantoms": {"train": 9}},
    "network": {"norm": "batch"},
}
ORDERS = {
    1: "F0 B0 F1 B1 F2 B2 F3 B3 F4 B4",
    2: "F0 F1 B0 F2 B1 F3 B2 F4 B3 B4",
    3: "F0 F1 F2 B0 F3 B1 F4 B2 B3 B4",
    9: "F0 F1 F2 F3 F4 B0 B1 B2 B3 B4",
}


class Server:
    """Answers in the thread that asks, once its gate is open, and notes what it was asked."""

    def __init__(self, breaks: str = ""):
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self._breaks = breaks

    def forward(self, step: int) -> Tensor:
        self._note(f"F{step}")
        return torch.tensor(float(step))

    def backward(self, step: int, gradient: Tensor) -> None:
        assert gradient == 10 * step
        self._note(f"B{step}")

    def _note(self, message: str) -> None:
        assert self.gate.wait(10)
        self.asked.append(message)
        if message == self._breaks:
            raise WireError(f"{message} was lost")

    def pipeline(self, steps: int, depth: int) -> Pipeline:
        return Pipeline(self.forward, self.backward, steps, depth)


def drive(pipeline: Pipeline, steps: int) -> None:
    for step in range(steps):
        assert pipeline.features(step) == step
        pipeline.give(step, torch.tensor(10.0 * step))
    pipeline.finish()


@pytest.mark.parametrize("deep", ORDERS)
def test_the_depth_alone_fixes_the_order(deep):
    server = Server()
    pipeline = server.pipeline(5, deep)
    drive(pipeline, 5)
    pipeline.close()
    assert " ".join(server.asked) == ORDERS[deep]


def test_a_round_without_steps_asks_for_nothing():
    server = Server()
    pipeline = server.pipeline(0, 2)
    pipeline.finish()
    pipeline.close()
    assert server.asked == []


def test_a_site_goes_on_while_its_gradient_is_on_the_wire():
    server = Server()
    pipeline = server.pipeline(3, 2)
    assert [pipeline.features(0), pipeline.features(1)] == [0, 1]
    server.gate.clear()
    pipeline.give(0, torch.tensor(0.0))
    pipeline.give(1, torch.tensor(10.0))
    assert server.asked == ["F0", "F1"]
    server.gate.set()
    assert pipeline.features(2) == 2
    pipeline.give(2, torch.tensor(20.0))
    pipeline.finish()
    pipeline.close()
    assert pipeline.hidden >= 0


@pytest.mark.parametrize("breaks", ["F0", "B0", "F2", "B1", "B2"])
def test_nothing_is_sent_after_a_message_that_failed_and_its_error_is_raised(breaks):
    server = Server(breaks)
    pipeline, threads = server.pipeline(3, 2), threading.active_count()
    with pytest.raises(WireError, match=f"{breaks} was lost"):
        drive(pipeline, 3)
    pipeline.close()
    assert server.asked[-1] == breaks
    assert threading.active_count() < threads


def test_a_pipeline_that_is_closed_sends_nothing_more():
    server = Server()
    server.gate.clear()
    pipeline = server.pipeline(9, 4)
    threading.Timer(0.05, server.gate.set).start()
    pipeline.close()
    assert server.asked in ([], ["F0"])


def config_of(deep: int, **more) -> SplitConfig:
    return tiny_config(ONCE, wire={"pipeline_depth": deep}, **more)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[int, Recording]:
    return {deep: record_run(config_of(deep), tmp_path_factory.mktemp("run")) for deep in (1, 2)}


@pytest.mark.parametrize("deep", [1, 2])
def test_every_round_of_every_site_has_that_order(deep, runs):
    heard: dict[tuple[str, int], list[str]] = defaultdict(list)
    for site, request, _ in runs[deep].messages:
        message = decode(request)
        if message.phase in LETTERS:
            heard[site, message.round].append(f"{LETTERS[message.phase]}{message.step}")
    assert len(heard) == 3 * 2
    assert {" ".join(order) for order in heard.values()} == {ORDERS[deep]}


@pytest.mark.parametrize("deep", [1, 2])
def test_sending_beside_the_sites_work_gives_the_numbers_of_sending_in_turn(
    deep, runs, tmp_path, monkeypatch
):
    monkeypatch.setattr(once_site, "Pipeline", InTurn)
    serial = run_job(config_of(deep), tmp_path)
    assert serial.numbers() == runs[deep].run.numbers()
    assert equal_models(serial, runs[deep].run)


def test_sites_at_once_change_no_number(runs, tmp_path):
    run = run_job(config_of(2), tmp_path, workers=3)
    assert run.numbers() == runs[2].run.numbers()
    assert equal_models(run, runs[2].run)


@pytest.mark.parametrize("closed", [True, False])
def test_a_process_per_task_and_a_resumption_change_no_number(closed, runs, tmp_path):
    """A round that is not closed is lost with the server, and done again."""
    stopped = Federation(config_of(2), tmp_path, new_process=True)
    stopped.run(1)
    if not closed:
        stopped.run_sites(next(stopped.coordinator.tasks()))
    resumed = Federation(config_of(2, resume_from="latest"), tmp_path, new_process=True)
    resumed.run()
    resumed.coordinator.finish()
    run = Run(tmp_path, json.loads((tmp_path / "results/results.json").read_text()))
    assert run.numbers() == runs[2].run.numbers()


# 6 breaks off the training in the middle of its steps, 15 at their end.
@pytest.mark.parametrize("answered", [6, 15])
def test_a_site_killed_with_steps_ahead_and_started_again_changes_no_number(answered, runs, tmp_path):
    federation = Federation(config_of(2), tmp_path, carrier=killed_after("south", answered))
    assert run_restarting(federation) == 1
    run = Run(tmp_path, json.loads((tmp_path / "results/results.json").read_text()))
    assert run.numbers() == runs[2].run.numbers()


def test_steps_ahead_see_the_weights_of_earlier_updates(runs):
    """Else the depth would be nothing but a matter of speed."""
    assert runs[1].run.results["rounds"] != runs[2].run.results["rounds"]
    assert not equal_models(runs[1].run, runs[2].run)


def test_a_server_that_does_not_move_gives_the_same_numbers_at_any_depth(tmp_path, monkeypatch):
    """Its running statistics move, once per step, and the sites' back ends learn."""
    groups = SiteCopy._parameter_groups
    monkeypatch.setattr(
        SiteCopy, "_parameter_groups", lambda copy: [group | {"lr": 0.0} for group in groups(copy)]
    )
    one, *deeper = (run_job(config_of(deep), tmp_path / str(deep)) for deep in (1, 2, 4))
    for run in deeper:
        assert run.results["rounds"] == one.results["rounds"]
        assert run.results["mean"] == one.results["mean"]
        assert equal_models(run, one)


def test_the_time_beside_the_sites_work_is_counted_as_the_sites(runs):
    timing = runs[2].run.results["timing"]
    assert timing["site_s"] > 0
    assert timing["transport_s"] > 0
    wires = [report["wire"] for report in runs[2].reports]
    assert all(wire["hidden"] >= 0 for wire in wires)
    assert any(wire["hidden"] > 0 for wire in wires)
