"""What the server answers to phases that belong to some algorithms alone."""

import pytest
import torch
from tiny_job import PLAIN, draw, request, server_of, tiny_config

from mucald.methods.split.server.endpoint import SplitServer
from mucald.methods.split.wire.messages import Field, Kind, Phase, decode
from mucald.methods.split.wire.weight_vector import to_vector

ARGUMENTS = {"fedem": {"components": 2}}
FETCH, GIVE, HEAD = Phase.FETCH_FRONT_END, Phase.GIVE_FRONT_END, Phase.TRAIN_HEAD
FORWARD, BACKWARD = Phase.TRAIN_FORWARD, Phase.TRAIN_BACKWARD


def make_server(name: str) -> SplitServer:
    config = tiny_config(PLAIN, algorithm={"name": name, "args": ARGUMENTS.get(name, {})})
    server = server_of(config)
    server.open_round(0, list(config.sites))
    return server


def reason(server: SplitServer, data: bytes) -> str:
    reply = decode(server.handle("north", data))
    assert reply.kind is Kind.REJECTION
    return reply.reason


@pytest.mark.parametrize(
    ("name", "phase"),
    [(name, phase) for name in ("splitfed", "fedem") for phase in (FETCH, GIVE, HEAD)] + [("fedper", HEAD)],
)
def test_a_phase_that_the_algorithm_has_no_use_for_is_refused(name, phase):
    data = request(phase, weights=draw(5)) if phase is GIVE else request(phase)
    assert reason(make_server(name), data) == f"{phase.name} does not fit algorithm {name}"


def test_a_front_end_of_another_size_or_out_of_turn_is_refused_and_changes_nothing():
    server = make_server("fedper")
    first = decode(server.handle("north", request(FETCH))).fields[Field.WEIGHTS]
    proxies = {"proxies": None, "proxy_mask": None}
    server.handle("north", request(FORWARD, **proxies))
    server.handle("north", request(BACKWARD))
    for weights in (first[:-1], torch.cat([first, first[:1]]), first[None]):
        assert "WEIGHTS has shape" in reason(server, request(GIVE, weights=weights))
    assert "not finite" in reason(server, request(GIVE, weights=torch.full_like(first, torch.nan)))
    assert "out of order" in reason(server, request(FETCH))
    held = server._sessions["north"].copy.segments.front_end
    assert torch.equal(to_vector(held, False), first)
    assert decode(server.handle("north", request(GIVE, weights=first + 1))).kind is Kind.REPLY
    assert torch.equal(to_vector(held, False), first + 1)
    assert "out of order" in reason(server, request(FORWARD, 1, **proxies))
