"""What is made ahead is what would have been made in turn, and it is made meanwhile."""

import threading
from collections.abc import Iterator

import pytest
from tiny_job import equal_models, run_job, tiny_config

from mucald.data.prefetch import one_ahead
from mucald.methods.split.site import fresh, once


def test_the_order_is_kept_and_nothing_is_left_out():
    for count in (0, 1, 2, 7):
        assert list(one_ahead(lambda number: number**2, range(count))) == [n**2 for n in range(count)]


def test_the_next_one_is_made_while_the_present_one_is_in_use_and_none_before():
    made = [threading.Event() for _ in range(4)]

    def make(number: int) -> int:
        made[number].set()
        return number

    made_ahead = one_ahead(make, range(4))
    assert next(made_ahead) == 0
    assert made[1].wait(10)
    assert not made[2].is_set()


def test_an_error_comes_in_its_turn_and_ends_the_thread():
    def make(number: int) -> float:
        return 1 / (2 - number)

    before, made = threading.active_count(), one_ahead(make, range(5))
    assert [next(made), next(made)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "release", [{"mode": "fresh"}, {"mode": "once", "pretraining_epochs": 1}], ids=lambda one: one["mode"]
)
def test_batches_made_ahead_give_the_numbers_of_batches_made_in_turn(release, tmp_path, monkeypatch):
    # Running statistics would show a front end that is not at rest, or in another mode.
    config = tiny_config(release=release, network={"norm": "batch"}, data={"phantoms": {"train": 6}})
    ahead = run_job(config, tmp_path / "ahead")

    def in_turn(make, items) -> Iterator:
        yield from map(make, items)

    for module in (fresh, once):
        monkeypatch.setattr(module, "one_ahead", in_turn)
    serial = run_job(config, tmp_path / "in_turn")
    assert ahead.numbers() == serial.numbers()
    assert equal_models(ahead, serial)
