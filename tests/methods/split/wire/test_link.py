import pytest
import torch
from tiny_job import BATCH, LATENT, draw, tiny_config

from mucald.errors import WireError
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.wire.messages import Field, Kind, Message, Phase, decode, payload_types
from mucald.wire.codec import FORMATS
from mucald.wire.link import Link

FIELDS = {Field.LATENT: draw(*LATENT), Field.LEVEL: torch.zeros(BATCH, dtype=torch.int32)}
FEATURES = {Field.FEATURES: draw(*LATENT, seed=1)}


def link_of(answer, config: SplitConfig, site: str = "north") -> Link:
    return Link(answer, decode, payload_types(config.wire), (config.seed, site))


def link(answer, **wire: str) -> Link:
    return link_of(answer, tiny_config(wire=wire))


def reply(phase=Phase.TEST, round_number=3, step=5, fields=FEATURES) -> bytes:
    return Message(Kind.REPLY, phase, round_number, step, fields).encode({Field.FEATURES: "float32"})


def test_a_request_arrives_whole_and_its_reply_comes_back():
    sent = []

    def server(data: bytes) -> bytes:
        sent.append(decode(data))
        return reply()

    answer = link(server, latent="float32").request(Phase.TEST, 3, 5, FIELDS)
    (request,) = sent
    assert (request.kind, request.phase, request.round, request.step) == (Kind.REQUEST, Phase.TEST, 3, 5)
    assert torch.equal(request.fields[Field.LATENT], FIELDS[Field.LATENT])
    assert torch.equal(answer[Field.FEATURES], FEATURES[Field.FEATURES])


@pytest.mark.parametrize("name", ["float32", "bfloat16", "int8", "int4"])
def test_the_latent_leaves_in_the_payload_type_of_the_job(name):
    sent = []

    def server(data: bytes) -> bytes:
        sent.append(data)
        return reply()

    link(server, latent=name).request(Phase.TEST, 3, 5, FIELDS)
    assert FORMATS[name].encode(FIELDS[Field.LATENT]) in sent[0]


def sent_gradients(seed: int, site: str, steps: range, name: str) -> list[bytes]:
    """Return what leaves for one gradient in several steps, without the header."""
    sent = []

    def server(data: bytes) -> bytes:
        asked = decode(data)
        sent.append(data[32:])
        reply = Message(Kind.REPLY, asked.phase, asked.round, asked.step, {})
        return reply.encode()

    carrier = link_of(server, tiny_config(seed=seed, wire={"feature_gradient": name}), site)
    for step in steps:
        fields = {Field.FEATURE_GRADIENT: draw(*LATENT)}
        carrier.request(Phase.TRAIN_BACKWARD_RELEASED, 3, step, fields)
    return sent


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_a_gradient_of_few_levels_is_rounded_by_draws_of_seed_site_and_step(name):
    sent = sent_gradients(7, "north", range(2), name)
    assert sent == sent_gradients(7, "north", range(2), name)
    assert len({*sent, *sent_gradients(8, "north", range(2), name)}) == 4
    assert len({*sent, *sent_gradients(7, "south", range(2), name)}) == 4
    assert all(FORMATS[name].encode(draw(*LATENT)) not in data for data in sent)


def test_the_two_directions_of_a_step_are_rounded_by_draws_of_their_own():
    gradient, types = draw(*LATENT), {Field.FEATURE_GRADIENT: "int8", Field.LATENT_GRADIENT: "int8"}
    up = Message(Kind.REQUEST, Phase.TRAIN_BACKWARD, 0, 0, {Field.FEATURE_GRADIENT: gradient})
    down = Message(Kind.REPLY, Phase.TRAIN_BACKWARD, 0, 0, {Field.LATENT_GRADIENT: gradient})
    arrived = [decode(message.encode(types, (7, "north"))).fields for message in (up, down)]
    assert not torch.equal(arrived[0][Field.FEATURE_GRADIENT], arrived[1][Field.LATENT_GRADIENT])


def test_every_payload_type_of_the_job_has_its_field():
    """Four different types, so that none can be taken for another."""
    names = {
        "latent": "int8",
        "features": "int4",
        "feature_gradient": "float32",
        "latent_gradient": "bfloat16",
    }
    assert payload_types(tiny_config(wire=names).wire) == {
        Field.LATENT: "int8",
        Field.FEATURES: "int4",
        Field.FEATURE_GRADIENT: "float32",
        Field.LATENT_GRADIENT: "bfloat16",
    }


def test_a_refusal_is_raised_with_its_reason():
    refusal = Message(Kind.REJECTION, Phase.TEST, 3, 5, {}, "round 3 is not open").encode()
    with pytest.raises(WireError, match="refused TEST of round 3: round 3 is not open"):
        link(lambda _: refusal).request(Phase.TEST, 3, 5, FIELDS)


@pytest.mark.parametrize(
    "answer",
    [reply(round_number=2), reply(step=4), reply(phase=Phase.VALIDATE)],
    ids=["round", "step", "phase"],
)
def test_an_answer_to_another_request_is_refused(answer):
    with pytest.raises(WireError, match="answered another request than TEST 3/5"):
        link(lambda _: answer).request(Phase.TEST, 3, 5, FIELDS)


def test_a_damaged_answer_is_refused():
    with pytest.raises(WireError, match="checksum"):
        link(lambda _: reply()[:-1] + b"\x01").request(Phase.TEST, 3, 5, FIELDS)


def test_bytes_are_counted_and_those_of_training_apart():
    sizes = []

    def server(data: bytes) -> bytes:
        message = decode(data)
        answer = reply(message.phase, message.round, message.step)
        sizes.append((len(data), len(answer)))
        return answer

    wire = link(server)
    wire.request(Phase.TRAIN_FORWARD, 0, 0, FIELDS)
    wire.request(Phase.TEST, 0, 0, FIELDS)
    assert wire.traffic.up == sizes[0][0] + sizes[1][0]
    assert wire.traffic.down == sizes[0][1] + sizes[1][1]
    assert wire.traffic.training == sum(sizes[0])
    assert wire.traffic.seconds > 0
