import pytest
import torch
from tiny_job import BATCH, PLAIN, draw, equal_tensors, make_copy, request, server_of, tiny_config

from mucald.errors import WireError
from mucald.methods.split.server.endpoint import SplitServer
from mucald.methods.split.server.released_samples import ReleasedSamples
from mucald.methods.split.wire.messages import Field, Kind, Message, Phase, decode
from mucald.state.checkpoint import with_prefix, without_prefix

ONCE = {"release": {"mode": "once"}}
NO_PROXIES = {"proxies": None, "proxy_mask": None}


def samples(seed: int = 0, proxies: bool = True):
    held = (draw(3, 4, seed=seed), torch.ones(3, 4, dtype=torch.uint8)) if proxies else None
    return draw(3, 2, 4, 4, seed=seed), torch.tensor([300, 301, 302]), held


@pytest.mark.parametrize("proxies", [True, False])
def test_samples_come_back_by_number_in_any_order_and_from_a_checkpoint(proxies):
    released = ReleasedSamples()
    released.add("train", 0, samples(0, proxies))
    released.add("train", 3, samples(1, proxies))
    released.add("validation", 0, samples(2, proxies))
    restored = ReleasedSamples()
    restored.add_state(without_prefix("x", with_prefix("x", released.state())))
    assert equal_tensors(restored.state(), released.state())
    for of in (released, restored):
        latent, level, known = of.batch("train", torch.tensor([4, 0], dtype=torch.int32))
        assert torch.equal(latent, torch.stack([samples(1)[0][1], samples(0)[0][0]]))
        assert level.tolist() == [301, 300]
        assert (known is not None) is proxies
        if known is not None:
            assert torch.equal(known[0], torch.stack([samples(1)[2][0][1], samples(0)[2][0][0]]))
        assert torch.equal(of.batch("validation", torch.tensor([1]))[0][0], samples(2)[0][1])


def test_what_has_not_been_released_is_missed_by_its_number():
    released = ReleasedSamples()
    released.add("train", 0, samples())
    for split, numbers in (("train", [0, 3]), ("train", [-1]), ("validation", [0])):
        with pytest.raises(WireError, match=f"sample {numbers[-1]} of {split} has not been released"):
            released.batch(split, torch.tensor(numbers))


def test_a_sample_is_released_again_only_if_it_is_the_same():
    released = ReleasedSamples()
    released.add("train", 0, samples())
    released.add("train", 0, samples())
    latent, level, proxies = samples()
    for other in (samples(5), (latent, level + 1, proxies), (latent, level, None)):
        with pytest.raises(WireError, match="sample 0 of train has been released before, and differently"):
            released.add("train", 0, other)
    assert torch.equal(released.batch("train", torch.tensor([0]))[0], latent[:1])


def make_server(*changes) -> SplitServer:
    config = tiny_config(PLAIN, *changes)
    server = server_of(config, {"north": make_copy(config)})
    server.open_round(0, ["north"])
    return server


def indices(phase: Phase, numbers: list[int] | list[list[int]], step: int = 0) -> bytes:
    fields = {Field.INDICES: torch.tensor(numbers, dtype=torch.int32)}
    return Message(Kind.REQUEST, phase, 0, step, fields).encode()


def reason(server: SplitServer, data: bytes) -> str:
    reply = decode(server.handle("north", data))
    assert reply.kind is Kind.REJECTION
    return reply.reason


def test_a_released_batch_trains_as_a_sent_one_and_its_gradient_stays():
    fresh, once = make_server(), make_server(ONCE)
    sent = decode(fresh.handle("north", request(Phase.TRAIN_FORWARD, **NO_PROXIES)))
    for step in range(2):
        reply = decode(once.handle("north", request(Phase.RELEASE, step, **NO_PROXIES)))
        assert (reply.kind, reply.fields) == (Kind.REPLY, {})
    named = decode(once.handle("north", indices(Phase.TRAIN_FORWARD_RELEASED, [0, 1])))
    assert torch.equal(named.fields[Field.FEATURES], sent.fields[Field.FEATURES])
    assert fresh.handle("north", request(Phase.TRAIN_BACKWARD)) != b""
    gradient = {Field.FEATURE_GRADIENT: decode(request(Phase.TRAIN_BACKWARD)).fields[Field.FEATURE_GRADIENT]}
    backward = Message(Kind.REQUEST, Phase.TRAIN_BACKWARD_RELEASED, 0, 0, gradient)
    reply = decode(once.handle("north", backward.encode({Field.FEATURE_GRADIENT: "float32"})))
    assert (reply.kind, reply.fields) == (Kind.REPLY, {})
    one, other = (server._sessions["north"].copy.segments.state_dict() for server in (fresh, once))
    assert equal_tensors(one, other)


def test_numbers_that_were_not_released_or_make_no_batch_are_refused():
    server = make_server(ONCE)
    nothing = indices(Phase.VALIDATE_RELEASED, [0])
    assert reason(server, nothing) == "sample 0 of validation has not been released"
    server.handle("north", request(Phase.RELEASE, **NO_PROXIES))
    forward = Phase.TRAIN_FORWARD_RELEASED
    assert reason(server, indices(forward, [0, 2])) == "sample 2 of train has not been released"
    assert "INDICES has shape (3,), not (2,)" in reason(server, indices(forward, [0] * (BATCH + 1)))
    assert "INDICES has shape" in reason(server, indices(forward, [[0, 1]]))


@pytest.mark.parametrize("phase", [Phase.TRAIN_FORWARD, Phase.TRAIN_FORWARD_WITH_NOISE, Phase.TRAIN_BACKWARD])
def test_nothing_is_trained_with_latents_that_are_sent_where_they_are_released_once(phase):
    data = request(phase, **({} if phase is Phase.TRAIN_BACKWARD else NO_PROXIES))
    assert reason(make_server(ONCE), data) == f"{phase.name} does not fit release.mode once"


def test_nothing_is_released_for_good_in_another_mode():
    server = make_server({"release": {"mode": "fresh"}})
    for data in (
        request(Phase.RELEASE, **NO_PROXIES),
        indices(Phase.VALIDATE_RELEASED, [0]),
        indices(Phase.TRAIN_FORWARD_RELEASED, [0]),
    ):
        assert "does not fit release.mode fresh" in reason(server, data)


def test_a_copy_that_goes_back_keeps_what_has_been_released():
    server = make_server(ONCE)
    copy = server._sessions["north"].copy
    start = copy.state()
    server.handle("north", request(Phase.RELEASE, **NO_PROXIES))
    server.restart("north", lambda: copy.load_state(*start))
    other = request(Phase.RELEASE, latent=draw(2, 4, 8, 8, seed=9), **NO_PROXIES)
    assert "differently" in reason(server, other)
    assert decode(server.handle("north", request(Phase.RELEASE, **NO_PROXIES))).kind is Kind.REPLY
