"""Messages that come twice, late, or in another order change nothing."""

import threading

import pytest
from tiny_job import PLAIN, Federation, equal_tensors, tiny_config

from mucald.errors import WireError
from mucald.methods.split.config import SplitConfig
from mucald.methods.split.wire.messages import Kind, decode


def twice(_name, send):
    def sending(data: bytes) -> bytes:
        first = send(data)
        assert send(data) == first
        return first

    return sending


def late(_name, send):
    """Every message comes again after the next one has been answered, as from a line with two ways."""
    before: list[bytes] = []

    def sending(data: bytes) -> bytes:
        reply = send(data)
        for old in before:
            assert decode(send(old)).kind is Kind.REJECTION
        before[:] = [*before[-3:], data]
        return reply

    return sending


def at_once(_name, send):
    """A message overtakes its own repetition: both are answered at the same time."""

    def sending(data: bytes) -> bytes:
        replies: list[bytes] = []
        threads = [threading.Thread(target=lambda: replies.append(send(data))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert replies[0] == replies[1]
        return replies[0]

    return sending


ONCE = {
    "release": {"mode": "once", "pretraining_epochs": 1},
    "wire": {"pipeline_depth": 2},
    "data": {"phantoms": {"train": 6}},
}
JOBS = {"one step at a time": PLAIN, "two steps on the way": ONCE}


def outcome(federation: Federation) -> tuple[dict, dict]:
    federation.run()
    results = federation.coordinator.finish()
    numbers = {key: value for key, value in results.items() if key not in ("run_id", "timing")}
    return numbers, {site: copy.state()[0] for site, copy in federation.copies.items()}


@pytest.fixture(scope="module", params=JOBS)
def undisturbed(request, tmp_path_factory) -> tuple[SplitConfig, dict, dict]:
    config = tiny_config(PLAIN, JOBS[request.param])
    return config, *outcome(Federation(config, tmp_path_factory.mktemp("undisturbed")))


@pytest.mark.parametrize("carrier", [twice, late, at_once])
def test_messages_that_come_twice_or_late_change_no_number(carrier, undisturbed, tmp_path):
    config, expected_numbers, expected_weights = undisturbed
    numbers, weights = outcome(Federation(config, tmp_path, carrier=carrier))
    assert numbers == expected_numbers
    assert all(equal_tensors(weights[site], expected) for site, expected in expected_weights.items())


def test_messages_in_another_order_are_refused_and_the_site_is_left_out(tmp_path):
    """A gradient that overtakes its latent finds no forward pass, and the latent after it is out of order."""
    held: list[bytes] = []

    def swapped(name, send):
        sent = iter(range(1000))

        def sending(data: bytes) -> bytes:
            if name == "south" and next(sent) == 2:
                held.append(data)
                raise WireError("the message is on its way")
            return send(data)

        return sending

    federation = Federation(tiny_config(PLAIN), tmp_path, carrier=swapped)
    before = {name: tensor.clone() for name, tensor in federation.copies["south"].state()[0].items()}
    task = next(federation.coordinator.tasks())
    federation.run_sites(task)
    answer = decode(federation.coordinator.handle("south", held[0]))
    assert "not open for this site" in answer.reason
    assert equal_tensors(federation.copies["south"].state()[0], before)
    federation.coordinator.close(task)
    assert set(federation.coordinator._history.rounds[0]["sites"]) == {"north", "west"}
