import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from typing import Any

import pytest
import torch
from tiny_job import BATCH, CPU, LATENT, draw, equal_tensors, make_copy, request, tiny_config

from mucald.methods.split.algorithms import make_algorithm
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.server.discriminators import Discriminators
from mucald.methods.split.server.endpoint import SplitServer
from mucald.methods.split.server.site_copy import SiteCopy
from mucald.methods.split.wire.messages import Field, Kind, Message, Phase, decode
from mucald.randomness import generator

FORWARD, BACKWARD = Phase.TRAIN_FORWARD, Phase.TRAIN_BACKWARD


SITES = {"sites": {"north": {"task": "kvasir"}, "south": {"task": "kvasir"}}}


class Server(SplitServer):
    """A server in its first round, with its networks at hand."""

    def __init__(self, config: SplitConfig):
        self.copies = {site: make_copy(config, site) for site in config.sites}
        modules = Discriminators(config, CPU).modules
        super().__init__(config, make_algorithm(config.algorithm), self.copies, modules)
        self.open_round(0, list(config.sites))


def make_server(**changes: Any) -> Server:
    return Server(tiny_config(SITES, **changes))


def weights(server: Server, site: str = "north") -> dict[str, torch.Tensor]:
    """Return clones of everything that a checkpoint holds: weights, optimiser, best weights."""
    return {name: tensor.clone() for name, tensor in server.copies[site].state()[0].items()}


def reason(reply: bytes) -> str:
    message = decode(reply)
    assert message.kind is Kind.REJECTION, f"a {message.kind.name} instead of a rejection"
    return message.reason


def train(server: Server, site: str, steps: int = 2) -> list[bytes]:
    return [server.handle(site, request(phase, n)) for n in range(steps) for phase in (FORWARD, BACKWARD)]


def damaged(offset: int, value: bytes, seal: bool = True) -> bytes:
    data = bytearray(request(BACKWARD))
    data[offset : offset + len(value)] = value
    if seal:
        data[24:28] = struct.pack("<I", zlib.crc32(data[28:], zlib.crc32(data[:24])))
    return bytes(data)


REFUSED = {
    "unknown site": ("stranger", request(BACKWARD), "unknown site 'stranger'"),
    "a later round": ("north", request(BACKWARD, round_number=1), "round 1 is not open"),
    "an earlier step": ("north", request(FORWARD, 0, latent=draw(*LATENT, seed=9)), "step 0 is out of order"),
    "an earlier phase": ("north", request(Phase.VALIDATE, 7), "VALIDATE step 7 is out of order"),
    "a gradient of no forward": ("north", request(BACKWARD, 2), "no forward pass of step 2"),
    "a site that has sent nothing": ("south", request(BACKWARD, 0), "no forward pass of step 0"),
    "a wrong gradient": (
        "north",
        request(BACKWARD, 1, feature_gradient=draw(2, 4, 8, 4)),
        "gradient has shape",
    ),
    "a wrong latent": ("north", request(FORWARD, 3, latent=draw(2, 4, 8, 4)), "LATENT has shape"),
    "too large a batch": ("north", request(FORWARD, 3, latent=draw(3, 4, 8, 8)), "batch of 3, at most 2"),
    "a batch of two sizes": ("north", request(FORWARD, 3, level=torch.zeros(1).int()), "LEVEL has shape"),
    "a level too high": (
        "north",
        request(FORWARD, 3, level=torch.full((BATCH,), 400).int()),
        "LEVEL must lie",
    ),
    "a negative level": (
        "north",
        request(FORWARD, 3, level=torch.full((BATCH,), -1).int()),
        "LEVEL must lie",
    ),
    "wrong proxies": ("north", request(FORWARD, 3, proxies=draw(BATCH, 5)), "PROXIES has shape"),
    "a wrong mask": ("north", request(FORWARD, 3, proxy_mask=torch.ones(BATCH, 1).byte()), "MASK has shape"),
    "a report after training": ("north", request(Phase.REPORT), "out of order"),
    "unasked noise": ("north", request(Phase.TRAIN_FORWARD_WITH_NOISE, 3), "does not fit supervision sure"),
    "a missing field": ("north", request(FORWARD, 3, level=None), "field LEVEL is missing"),
    "no message": ("north", b"", "message of 0 bytes"),
    "garbage": ("north", bytes(range(256)), "wrong magic"),
    "another version": ("north", damaged(4, b"\x01"), "protocol version 1"),
    "a flipped bit": ("north", damaged(80, b"\xff", seal=False), "checksum"),
    "another phase": ("north", damaged(6, bytes([FORWARD])), "field 6 is not allowed"),
    "too short a payload": ("north", request(BACKWARD)[:-8], "length"),
    "not a number": (
        "north",
        request(BACKWARD, feature_gradient=torch.full(LATENT, torch.nan)),
        "not finite",
    ),
    "a reply": (
        "north",
        Message(Kind.REPLY, BACKWARD, 0, 0, {Field.LATENT_GRADIENT: draw(*LATENT)}).encode(
            {Field.LATENT_GRADIENT: "float32"}
        ),
        "takes requests only",
    ),
    "a rejection": (
        "north",
        Message(Kind.REJECTION, BACKWARD, 0, 0, {}, "no").encode(),
        "takes requests only",
    ),
}


@pytest.fixture(scope="module")
def undisturbed() -> tuple[list[bytes], dict[str, torch.Tensor]]:
    """What a server answers, and has learnt, if nothing goes wrong."""
    server = make_server()
    return train(server, "north"), weights(server)


@pytest.mark.parametrize(("site", "message", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused_and_the_server_goes_on(site, message, why, undisturbed):
    server, (replies, learnt) = make_server(), undisturbed
    train(server, "north", 1)
    assert server.handle("north", request(FORWARD, 1)) == replies[2]
    before = weights(server)
    assert why in reason(server.handle(site, message))
    assert equal_tensors(weights(server), before)
    assert server.handle("north", request(BACKWARD, 1)) == replies[3]
    assert equal_tensors(weights(server), learnt)
    assert not equal_tensors(learnt, before)


def test_no_mangled_message_stops_the_server():
    """Random bytes changed, the checksum made right again: an answer, never an exception."""
    server, draws = make_server(), generator("mangle")
    original = request(FORWARD)
    for attempt in range(300):
        data = bytearray(original[: draws.integers(20, len(original) + 1)] if attempt % 3 == 0 else original)
        for position in draws.integers(0, min(len(data), 200), size=3):
            data[position] = draws.integers(256)
        if len(data) >= 28:
            data[24:28] = struct.pack("<I", zlib.crc32(data[28:], zlib.crc32(data[:24])))
        assert decode(server.handle("north", bytes(data))).kind in (Kind.REJECTION, Kind.REPLY)
    server.open_round(1, ["north"])
    assert decode(server.handle("north", request(FORWARD, round_number=1))).kind is Kind.REPLY


def test_a_round_is_open_to_its_sites_until_it_is_closed():
    server = make_server()
    server.open_round(4, ["north"])
    assert "round 0 is not open for this site (current round 4)" in reason(
        server.handle("north", request(FORWARD))
    )
    assert "not open" in reason(server.handle("south", request(FORWARD, round_number=4)))
    assert decode(server.handle("north", request(FORWARD, round_number=4))).kind is Kind.REPLY
    server.close("north")
    assert "not open" in reason(server.handle("north", request(BACKWARD, round_number=4)))


def test_phases_follow_one_another():
    """Validation, report, training; a step back is refused, and so is a gradient before its latent."""
    server = make_server()
    server.open_round(1, ["north"])

    def send(phase: Phase, step: int = 0) -> Message:
        return decode(server.handle("north", request(phase, step, round_number=1)))

    expected = [
        (Phase.VALIDATE, 0),
        (Phase.VALIDATE, 1),
        (Phase.REPORT, 0),
        (FORWARD, 0),
        (BACKWARD, 0),
        (FORWARD, 1),
    ]
    for number, (phase, step) in enumerate(expected):
        assert send(phase, step).kind is Kind.REPLY
        for earlier in expected[:number]:
            assert "out of order" in send(*earlier).reason


@pytest.mark.parametrize("phase", [FORWARD, BACKWARD])
def test_a_repeated_request_gets_the_same_bytes_and_changes_nothing(phase):
    server, undisturbed = make_server(), make_server()
    messages = [request(FORWARD), request(BACKWARD)][: 1 if phase is FORWARD else 2]
    replies = [server.handle("north", message) for message in messages]
    before = weights(server)
    assert server.handle("north", messages[-1]) == replies[-1]
    assert equal_tensors(weights(server), before)
    train(undisturbed, "north")
    rest = [request(BACKWARD)] * (phase is FORWARD) + [request(FORWARD, 1), request(BACKWARD, 1)]
    for message in rest:
        server.handle("north", message)
    assert equal_tensors(weights(server), weights(undisturbed))


def test_a_request_that_comes_twice_at_once_is_done_once():
    server, undisturbed = make_server(), make_server()
    with ThreadPoolExecutor(4) as pool:
        for message in (request(FORWARD), request(BACKWARD)):
            answers = list(pool.map(lambda data: server.handle("north", data), [message] * 4))
            assert answers == [undisturbed.handle("north", message)] * 4
    assert equal_tensors(weights(server), weights(undisturbed))


def test_sites_at_once_get_the_numbers_of_sites_in_turn():
    in_turn, at_once = (make_server(daca={"enabled": False}) for _ in range(2))
    sites = ["north", "south"]
    expected = [train(in_turn, site, 4) for site in sites]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda site: train(at_once, site, 4), sites)) == expected
    for site in sites:
        assert equal_tensors(weights(in_turn, site), weights(at_once, site))
    assert not equal_tensors(weights(in_turn, "north"), weights(in_turn, "south")), (
        "of one task, they differ in the server's noise alone"
    )


def test_no_more_steps_are_worked_on_at_a_time_than_the_machine_bears(monkeypatch):
    monkeypatch.setattr("mucald.methods.split.server.endpoint.steps_at_once", lambda _: 2)
    names = ("north", "south", "east", "west")
    server = Server(tiny_config({"sites": {name: {"task": "kvasir"} for name in names}}))
    at_work, most, two = set[str](), set[int](), Barrier(2, timeout=30)

    def wait_for_another(copy: SiteCopy, *_: object) -> None:
        at_work.add(copy.site)
        two.wait()
        most.add(len(at_work))
        two.wait()
        at_work.remove(copy.site)

    for copy in server.copies.values():
        monkeypatch.setattr(copy, "train_forward", partial(wait_for_another, copy))
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: server.handle(name, request(FORWARD)), names))
    assert most == {2}


def test_a_gradient_that_overflows_is_refused_before_it_spoils_the_weights():
    server = make_server()
    server.handle("north", request(FORWARD))
    before = weights(server)
    huge = request(BACKWARD, feature_gradient=torch.full(LATENT, 1e38))
    assert "of site 'north' is not finite at step 0" in reason(server.handle("north", huge))
    assert equal_tensors(weights(server), before)


def test_a_site_changes_its_own_copy_only():
    server = make_server()
    before = {site: weights(server, site) for site in ("north", "south")}
    train(server, "north", 1)
    assert not equal_tensors(weights(server, "north"), before["north"])
    assert equal_tensors(weights(server, "south"), before["south"])


def test_with_epsilon_supervision_the_noise_is_needed():
    server = make_server(crdm={"supervision": "epsilon"})
    assert "does not fit supervision epsilon" in reason(server.handle("north", request(FORWARD)))
    with_noise = request(Phase.TRAIN_FORWARD_WITH_NOISE)
    assert decode(server.handle("north", with_noise)).kind is Kind.REPLY
    lacking = request(Phase.TRAIN_FORWARD_WITH_NOISE, 1, noise=None)
    assert "field NOISE is missing" in reason(server.handle("north", lacking))


def test_the_server_says_whether_a_validation_is_the_best_so_far():
    server = make_server()

    server.open_round(1, ["north"])
    wrong = request(Phase.REPORT, round_number=1, counters=torch.zeros(3).double())
    assert "COUNTERS has shape (3,), not (2,)" in reason(server.handle("north", wrong))

    def best(round_number: int, dice: float) -> float:
        server.open_round(round_number, ["north"])
        counters = torch.tensor([dice, 1.0], dtype=torch.float64)
        answer = server.handle("north", request(Phase.REPORT, round_number=round_number, counters=counters))
        return float(decode(answer).fields[Field.COUNTERS][0])

    assert [best(n, dice) for n, dice in enumerate([-1.0, 0.3, 0.3, 0.2, 0.4], start=1)] == [0, 1, 0, 0, 1]


def test_an_inner_error_is_refused_without_its_details(monkeypatch):
    server = make_server()

    def broken(*_arguments):
        raise RuntimeError("a path such as /data/patients")

    monkeypatch.setattr(server.copies["north"], "train_forward", broken)
    assert reason(server.handle("north", request(FORWARD))) == "internal error (RuntimeError)"
    assert decode(server.handle("south", request(FORWARD))).kind is Kind.REPLY


def test_the_replies_have_the_payload_types_of_the_job():
    exact = make_server(wire={"features": "float32"})
    coarse = make_server(wire={"features": "bfloat16"})
    answers = [
        decode(server.handle("north", request(FORWARD))).fields[Field.FEATURES] for server in (exact, coarse)
    ]
    assert torch.equal(answers[0].to(torch.bfloat16).float(), answers[1])
    assert not torch.equal(answers[0], answers[1])
