"""Many thousand mutated and random messages, at every place of the protocol.

The yardstick is a second server that gets only what the first one let through to its networks: whatever else
was sent, both give the same bytes in answer and end with the same weights.
"""

import gc
import logging
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from tiny_job import BATCH, CPU, LATENT, PLAIN, draw, equal_tensors, make_copy, request, tiny_config

from mucald.errors import WireError
from mucald.methods.split.algorithms import make_algorithm
from mucald.methods.split.server.discriminators import Discriminators
from mucald.methods.split.server.endpoint import SplitServer
from mucald.methods.split.wire.messages import Field, Kind, Message, Phase, decode
from mucald.methods.split.wire.weight_vector import to_vector
from mucald.randomness import generator

SITE, START = "north", 28
MUTANTS, ROUNDS = 160, 3
CPU_LIMIT_S = 20
NOTHING = dict.fromkeys(("latent", "level", "proxies", "proxy_mask"))
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1)
NUMBERS = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45)
JOBS: dict[str, dict[str, Any]] = {
    "splitfed": {},
    "epsilon": {"crdm": {"supervision": "epsilon"}},
    "fedrep": {
        **PLAIN,
        "algorithm": {"name": "fedrep", "args": {"head_epochs": 1}},
        "training": {"local_epochs": 2},
    },
    "once": {"release": {"mode": "once", "pretraining_epochs": 1}},
    "two steps on the way": {
        "release": {"mode": "once", "pretraining_epochs": 1},
        "wire": {"pipeline_depth": 2},
    },
}


class Server(SplitServer):
    """A server that notes which messages get through to its networks."""

    def __init__(self, job: str):
        config = tiny_config(JOBS[job])
        self.copies = {site: make_copy(config, site) for site in config.sites}
        self.let_through = 0
        modules = Discriminators(config, CPU).modules
        super().__init__(config, make_algorithm(config.algorithm), self.copies, modules)

    def _dispatch(self, copy, message):
        self.let_through += 1
        return super()._dispatch(copy, message)

    def weights(self) -> dict[str, torch.Tensor]:
        return {
            f"{site}.{name}": tensor
            for site, copy in self.copies.items()
            for name, tensor in copy.state()[0].items()
        }


def indices(phase: Phase, step: int, round_number: int) -> bytes:
    return request(phase, step, round_number, **NOTHING, indices=torch.arange(BATCH, dtype=torch.int32))


def script(job: str, number: int, server: Server) -> list[bytes]:
    """Return the messages of a site's round, with every phase that the job has."""
    train, back = Phase.TRAIN_FORWARD, Phase.TRAIN_BACKWARD
    proxies = {"proxies": None, "proxy_mask": None} if job == "fedrep" else {}
    front = [request(Phase.VALIDATE, 0, number, **proxies), request(Phase.REPORT, 0, number)]
    if job == "epsilon":
        train = Phase.TRAIN_FORWARD_WITH_NOISE
    steps = [request(phase, 1, number, **(proxies if phase is train else {})) for phase in (train, back)]
    if job == "fedrep":
        weights = to_vector(server.copies[SITE].segments.front_end, False) + 0.01
        front = [request(Phase.FETCH_FRONT_END, 0, number), *front]
        steps = [request(Phase.TRAIN_HEAD, 0, number), *steps]
        steps += [request(Phase.GIVE_FRONT_END, 0, number, weights=weights)]
    if JOBS[job].get("release"):
        gradient = draw(*LATENT, seed=number) / 10
        if number > 0:
            front[0] = indices(Phase.VALIDATE_RELEASED, 0, number)
        front += [request(Phase.RELEASE, 0, number)] * (number == 0)
        steps = [
            indices(Phase.TRAIN_FORWARD_RELEASED, 1, number),
            request(Phase.TRAIN_BACKWARD_RELEASED, 1, number, **NOTHING, feature_gradient=gradient),
        ]
        if job != "once":
            steps.insert(1, indices(Phase.TRAIN_FORWARD_RELEASED, 2, number))
            steps += [request(Phase.TRAIN_BACKWARD_RELEASED, 2, number, **NOTHING, feature_gradient=gradient)]
    return [*front, *steps, request(Phase.TEST, 0, number)]


def seal(data: bytearray, size: bool = True) -> bytes:
    """Make length and checksum right again, so that the checks behind them are reached."""
    if len(data) >= START:
        if size:
            data[16:24] = struct.pack("<Q", len(data) - START)
        data[24:28] = struct.pack("<I", zlib.crc32(data[START:], zlib.crc32(data[:24])))
    return bytes(data)


def flipped(data: bytearray, _others: list[bytes], draws: np.random.Generator) -> bytes:
    for position in draws.integers(0, len(data), size=draws.integers(1, 9)):
        data[position] ^= 1 << draws.integers(8)
    return seal(data) if draws.random() < 0.2 else bytes(data)


def truncated(data: bytearray, _others: list[bytes], draws: np.random.Generator) -> bytes:
    return seal(data[: draws.integers(len(data))], bool(draws.integers(2)))


def extended(data: bytearray, _others: list[bytes], draws: np.random.Generator) -> bytes:
    return seal(data + draws.bytes(draws.integers(1, 200)), bool(draws.integers(2)))


def wrong_header(data: bytearray, _others: list[bytes], draws: np.random.Generator) -> bytes:
    position = draws.integers(4, 16)
    data[position] = draws.integers(256)
    return seal(data)


def wrong_descriptor(data: bytearray, _others: list[bytes], draws: np.random.Generator) -> bytes:
    """Other fields, types, and shapes, huge ones above all."""
    if len(data) < START + 28:
        return seal(data)
    start = START + 28 * draws.integers(max(min(data[7], (len(data) - START) // 28), 1))
    offset, length = ((0, 1), (1, 1), (2, 1), (4, 4), (8, 4), (12, 4), (16, 4), (20, 8))[draws.integers(8)]
    value = EXTREMES[draws.integers(len(EXTREMES))] % (1 << 8 * length)
    data[start + offset : start + offset + length] = int(value).to_bytes(length, "little")
    return seal(data)


def wrong_number(data: bytearray, _others: list[bytes], draws: np.random.Generator) -> bytes:
    start = START + 28 * data[7]
    if len(data) >= start + 4:
        position = start + 4 * draws.integers((len(data) - start) // 4)
        data[position : position + 4] = np.float32(NUMBERS[draws.integers(len(NUMBERS))]).tobytes()
    return seal(data)


def swapped(data: bytearray, _others: list[bytes], _draws: np.random.Generator) -> bytes:
    first, second = data[START : START + 28], data[START + 28 : START + 56]
    data[START : START + len(first) + len(second)] = second + first
    return seal(data)


def spliced(data: bytearray, others: list[bytes], draws: np.random.Generator) -> bytes:
    other = others[draws.integers(len(others))]
    return seal(data[: draws.integers(len(data))] + other[draws.integers(len(other)) :])


def out_of_turn(_data: bytearray, others: list[bytes], draws: np.random.Generator) -> bytes:
    other = bytearray(others[draws.integers(len(others))])
    other[8:12] = struct.pack("<I", draws.integers(0, 5))
    return seal(other)


def random_bytes(data: bytearray, _others: list[bytes], draws: np.random.Generator) -> bytes:
    body = bytearray(draws.bytes(draws.integers(0, 300)))
    return seal(data[:6] + body) if draws.random() < 0.5 else bytes(body)


MUTATIONS = (
    flipped,
    truncated,
    extended,
    wrong_header,
    wrong_descriptor,
    wrong_number,
    swapped,
    spliced,
    out_of_turn,
    random_bytes,
)
Mutate = Callable[[bytearray, list[bytes], np.random.Generator], bytes]


def mutants(data: bytes, others: list[bytes], draws: np.random.Generator, count: int) -> Iterator[bytes]:
    for number in range(count):
        yield MUTATIONS[number % len(MUTATIONS)](bytearray(data), others, draws)


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


@pytest.mark.parametrize("job", JOBS)
def test_nothing_that_is_sent_stops_the_server_grows_it_or_changes_what_it_learns(job, caplog):
    caplog.set_level(logging.CRITICAL, logger="mucald.methods.split.server.endpoint")
    server, reference = Server(job), Server(job)
    draws, start, sent, valid, memory = generator("fuzz", job), time.process_time(), 0, 0, []
    for number in range(ROUNDS):
        for each in (server, reference):
            each.open_round(number, [SITE])
        messages = script(job, number, reference)
        for message in messages:
            for data in (*mutants(message, messages, draws, MUTANTS), message):
                before = server.let_through
                reply = server.handle(SITE, data)
                sent += 1
                answer = decode(reply)
                assert "internal error" not in answer.reason
                assert answer.kind is not Kind.REQUEST
                if server.let_through > before:
                    valid += answer.kind is Kind.REPLY
                    assert reference.handle(SITE, data) == reply
        memory.append(resident())
    # Of five jobs, with five messages a round or more.
    assert sent >= 5 * ROUNDS * MUTANTS
    assert valid >= ROUNDS * 3
    assert equal_tensors(server.weights(), reference.weights())
    assert all(bool(tensor.isfinite().all()) for tensor in server.weights().values())
    assert memory[-1] < 1.02 * memory[0]
    assert time.process_time() - start < CPU_LIMIT_S


def test_a_decoder_lets_through_a_message_or_refuses_it_and_does_nothing_else():
    """Also for answers, which a site decodes."""
    messages = [data for job in JOBS for data in script(job, 1, Server(job))]
    messages += [
        Message(Kind.REPLY, Phase.VALIDATE, 0, 0, {Field.FEATURES: draw(*LATENT)}).encode(
            {Field.FEATURES: name}
        )
        for name in ("int8", "bfloat16", "float32")
    ]
    messages.append(Message(Kind.REJECTION, Phase.TEST, 1, 2, {}, "no").encode())
    draws, refused = generator("fuzz", "decoder"), 0
    for message in messages:
        for data in mutants(message, messages, draws, 300):
            try:
                decode(data)
            except WireError:
                refused += 1
    assert refused > 0.5 * 300 * len(messages)


@pytest.mark.parametrize("number", [0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("payload_type", [1, 2, 3])
def test_a_huge_declared_shape_is_refused_before_anything_is_allocated_for_it(number, payload_type, caplog):
    caplog.set_level(logging.CRITICAL, logger="mucald.methods.split.server.endpoint")
    server = Server("splitfed")
    server.open_round(0, [SITE])
    plain = request(Phase.TRAIN_FORWARD)
    messages = []
    for offset in (4, 8, 12, 16):
        data = bytearray(plain)
        data[START + 1] = payload_type
        data[START + offset : START + offset + 4] = struct.pack("<I", number)
        messages.append(seal(data))
    for size in (number, 1 << 62, (1 << 64) - 1):
        data = bytearray(plain)
        data[START + 20 : START + 28] = struct.pack("<Q", size)
        messages.append(seal(data))
    data = bytearray(plain)
    data[16:24] = struct.pack("<Q", (1 << 64) - 1)
    messages.append(seal(data, size=False))
    server.handle(SITE, plain[:40])
    tracemalloc.start()
    try:
        for data in messages:
            assert decode(server.handle(SITE, data)).kind is Kind.REJECTION
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(plain)


def test_a_message_larger_than_any_of_the_job_is_refused_undecoded(caplog):
    server = Server("fedrep")
    server.open_round(0, [SITE])
    largest = max(map(len, script("fedrep", 0, server)))
    limit = server._sessions[SITE].limit
    assert largest < limit < largest + (2 << 20)
    tracemalloc.start()
    try:
        reply = decode(server.handle(SITE, bytes(limit + 1)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reply.reason == f"message of {limit + 1} bytes; expected 28 to {limit}"
    # The message itself, which the carrier holds.
    assert peak < 1.1 * limit
    assert "message of" in caplog.text
