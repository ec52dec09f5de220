"""Weights in a file instead of memory."""

import pytest
from tiny_job import CPU, draw, equal_tensors

from mucald.errors import CheckpointError
from mucald.state.disk_tensors import DiskTensors

FIRST = {"a": draw(3, 2), "b": draw(5, seed=1)}
SECOND = {"a": draw(3, 2, seed=2)}


def test_what_is_put_aside_comes_back_to_the_bit_until_something_else_is(tmp_path):
    aside = DiskTensors(tmp_path / "folder" / "weights", CPU)
    assert not aside
    assert aside.load() == {}
    aside.put(FIRST)
    assert aside
    assert equal_tensors(aside.load(), FIRST)
    assert [tensor.tolist() for tensor in aside.tensors(["b", "a"])] == [
        FIRST["b"].tolist(),
        FIRST["a"].tolist(),
    ]
    before = aside.load()
    aside.put(SECOND)
    assert equal_tensors(aside.load(), SECOND)
    assert equal_tensors(before, FIRST), "who has read from the file still has what was in it"
    aside.put({})
    assert not aside
    assert aside.load() == {}


def test_a_file_from_an_earlier_process_counts_for_nothing(tmp_path):
    DiskTensors(tmp_path / "weights", CPU).put(FIRST)
    assert DiskTensors(tmp_path / "weights", CPU).load() == {}


def test_a_disk_that_refuses_is_named_here_and_not_to_others_and_what_was_there_stays(tmp_path):
    aside = DiskTensors(tmp_path / "weights", CPU)
    aside.put(FIRST)
    (tmp_path / ".weights").mkdir()
    with pytest.raises(CheckpointError, match=r"could not write .*weights.*; free disk space") as error:
        aside.put(SECOND)
    assert str(tmp_path) not in error.value.public
    assert equal_tensors(aside.load(), FIRST)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x" * 100)])
def test_a_file_that_is_gone_or_damaged_is_named(damage, tmp_path):
    aside = DiskTensors(tmp_path / "weights", CPU)
    aside.put(FIRST)
    damage(tmp_path / "weights")
    with pytest.raises(CheckpointError, match=r"could not read .*weights"):
        aside.load()
