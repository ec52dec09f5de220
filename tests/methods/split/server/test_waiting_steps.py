"""Training steps whose gradients come later than the next steps' features."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_job import BATCH, CPU, LATENT, draw, equal_tensors, make_copy, request, server_of, tiny_config

from mucald.errors import TrainingError
from mucald.methods.split.server.discriminators import Discriminators
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.methods.split.server.waiting_steps import WaitingSteps
from mucald.methods.split.wire.messages import Field, Kind, Phase, decode

FORWARD, BACKWARD = Phase.TRAIN_FORWARD_RELEASED, Phase.TRAIN_BACKWARD_RELEASED
LEVEL = torch.full((BATCH,), 300)
PROXIES = draw(BATCH, 4, seed=5), torch.ones(BATCH, 4, dtype=torch.uint8)
# Running statistics would show a pass too many.
ONCE = {"release": {"mode": "once"}, "network": {"norm": "batch"}}


def two_ahead() -> dict[str, Any]:
    return {"wire": {"pipeline_depth": 2}}


class Network:
    """Notes which passes are made; features are named by how often there was an update."""

    def __init__(self) -> None:
        self.passes: list[str] = []
        self.updates = 0

    def forward(self, step: int):
        self.passes.append(f"graph of {step}")
        denoised = torch.full((2, 3), float(self.updates))
        return SimpleNamespace(run=SimpleNamespace(second=SimpleNamespace(denoised=denoised)))

    def begin(self, pending: WaitingSteps, step: int) -> float:
        def features() -> torch.Tensor:
            self.passes.append(f"features of {step}")
            return torch.full((2, 3), float(self.updates))

        return pending.begin(step, lambda: self.forward(step), features)[0, 0].item()


def test_one_step_at_a_time_keeps_its_graph_and_makes_no_pass_twice():
    network, pending = Network(), WaitingSteps(1)
    network.begin(pending, 0)
    pending.finish(0, torch.zeros(2, 3))
    assert network.passes == ["graph of 0"]


def test_a_step_ahead_gets_its_features_early_and_its_graph_when_its_gradient_is_there():
    network, pending = Network(), WaitingSteps(2)
    assert [network.begin(pending, step) for step in (0, 1)] == [0, 0]
    network.updates = 1
    begun = pending.finish(1, torch.zeros(2, 3))
    assert begun.run.second.denoised[0, 0] == 1
    assert network.passes == ["features of 0", "features of 1", "graph of 1"]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_last_steps_wait_and_no_others(depth):
    network, pending = Network(), WaitingSteps(depth)
    for step in range(5):
        network.begin(pending, step)
    for step in range(5 - depth):
        with pytest.raises(TrainingError, match=f"no forward pass of step {step} is waiting"):
            pending.finish(step, torch.zeros(2, 3))
    for step in range(5 - depth, 5):
        with pytest.raises(TrainingError, match=r"gradient has shape \(3, 2\), not \(2, 3\)"):
            pending.finish(step, torch.zeros(3, 2))
        pending.finish(step, torch.zeros(2, 3))
        with pytest.raises(TrainingError, match=f"no forward pass of step {step} is waiting"):
            pending.finish(step, torch.zeros(2, 3))
    network.begin(pending, 7)
    pending.clear()
    with pytest.raises(TrainingError, match="no forward pass of step 7"):
        pending.finish(7, torch.zeros(2, 3))


def trained(order: str, *changes: dict[str, Any]) -> tuple[SiteCopy, dict[str, torch.Tensor]]:
    """Do forward (F) and backward (B) passes with given gradients; return the copy and the features sent."""
    config = tiny_config(ONCE, *changes)
    copy, modules, sent = make_copy(config), Discriminators(config, CPU).modules, {}
    for letter, number in order.split():
        step = int(number)
        if letter == "F":
            latent = draw(*LATENT, seed=step)
            sent[number] = copy.train_forward(0, step, latent, LEVEL, PROXIES, None, modules)
        else:
            copy.train_backward(step, draw(*LATENT, seed=90 + step))
    return copy, sent


def test_for_given_gradients_steps_ahead_change_nothing_but_the_features_that_are_sent():
    in_turn, late = trained("F0 B0 F1 B1 F2 B2")
    ahead, early = trained("F0 F1 B0 F2 B1 B2", two_ahead())
    assert equal_tensors(dict(ahead.segments.state_dict()), dict(in_turn.segments.state_dict()))
    assert any("running_mean" in name for name in ahead.segments.state_dict())
    assert ahead.tally.losses.means() == in_turn.tally.losses.means()
    assert ahead.tally.gradients.means() == in_turn.tally.gradients.means()
    for one, other in zip(ahead.features, in_turn.features, strict=True):
        assert torch.equal(one.features(), other.features())
    # Those of step k are made with the weights that step k - 1 found.
    assert torch.equal(early["0"], late["0"])
    assert torch.equal(early["1"], trained("F0 F1")[1]["1"])
    assert torch.equal(early["2"], trained("F0 B0 F1 F2")[1]["2"])
    assert not torch.equal(early["1"], late["1"])


def test_features_that_are_made_early_leave_no_trace():
    copy, _ = trained("F0 F1", two_ahead())
    untouched, _ = trained("", two_ahead())
    assert equal_tensors(dict(copy.segments.state_dict()), dict(untouched.segments.state_dict()))
    assert copy.tally.losses.means() == {}
    assert [len(buffer) for buffer in copy.features] == [0, 0]


class Talk:
    """A server at depth 2 that has two released mini-batches, and the messages of a site."""

    def __init__(self) -> None:
        config = tiny_config(ONCE, two_ahead())
        self.copy = make_copy(config)
        self.server = server_of(config, {"north": self.copy}, Discriminators(config, CPU).modules)
        self.server.open_round(0, ["north"])
        for step in range(2):
            self.server.handle("north", request(Phase.RELEASE, step))

    def say(self, message: str) -> bytes:
        step = int(message[1:])
        if message[0] == "F":
            numbers = torch.arange(BATCH, dtype=torch.int32) + BATCH * (step % 2)
            fields = {"indices": numbers}
        else:
            fields = {"feature_gradient": draw(*LATENT, seed=step) / 10}
        nothing = dict.fromkeys(("latent", "level", "proxies", "proxy_mask"))
        phase = FORWARD if message[0] == "F" else BACKWARD
        return self.server.handle("north", request(phase, step, **nothing, **fields))

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.copy.state()[0].items()}


ORDER = ["F0", "F1", "B0", "F2", "B1", "F3", "B2", "B3"]


@pytest.fixture(scope="module")
def undisturbed() -> tuple[list[bytes], dict[str, torch.Tensor]]:
    talk = Talk()
    return [talk.say(message) for message in ORDER], talk.weights()


def test_the_order_of_two_steps_on_the_way_is_accepted(undisturbed):
    assert all(decode(reply).kind is Kind.REPLY for reply in undisturbed[0])
    assert [Field.FEATURES in decode(reply).fields for reply in undisturbed[0]] == [
        message[0] == "F" for message in ORDER
    ]


def test_what_comes_twice_late_or_too_early_changes_nothing(undisturbed):
    replies, weights = undisturbed
    talk = Talk()
    for number, message in enumerate(ORDER):
        assert "no forward pass of step 9 is waiting" in decode(talk.say("B9")).reason
        for _ in range(2):
            assert talk.say(message) == replies[number], "answered from memory the second time"
        for old in ORDER[:number]:
            assert "out of order" in decode(talk.say(old)).reason
    assert equal_tensors(talk.weights(), weights)
