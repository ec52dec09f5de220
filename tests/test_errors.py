"""What is told of exceptions, to the person who can mend them and to others."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from mucald.errors import ConfigError, DataError, ResourceError, UnexpectedError, explained


def raised(action) -> Exception:
    with pytest.raises(Exception) as found:  # noqa: PT011 - which, the test asks
        action()
    return found.value


def test_an_error_of_ours_stays_as_it_is():
    error = ConfigError("the job is wrong")
    assert explained(error) is error
    assert explained(error, reading=Path("x")) is error


@pytest.mark.parametrize(
    ("action", "what"),
    [
        (lambda path: (path / "no").read_text(), "{path}/no: does not exist"),
        (lambda path: path.read_text(), "{path}: cannot be read or written (Is a directory)"),
        (lambda path: path.mkdir(), "{path}: cannot be written (File exists)"),
        (lambda path: (path / "f/x").read_text(), "{path}/f/x: cannot be read or written (Not a directory)"),
    ],
)
def test_what_the_file_system_refuses_is_named_here_and_not_to_others(action, what, tmp_path):
    (tmp_path / "f").touch()
    told = explained(raised(lambda: action(tmp_path)))
    assert isinstance(told, ResourceError)
    assert str(told) == what.format(path=tmp_path)
    assert str(tmp_path) not in told.public
    assert told.public == "a file" + str(told).split(":", 1)[1]


def test_a_full_disk_is_told_however_the_writer_words_it():
    full = "a file cannot be written (No space left on device); make room"
    assert str(explained(raised(lambda: Path("/dev/full").write_text("x")))) == full
    words = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert str(explained(SafetensorError(words))) == full
    assert str(explained(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/a"))).endswith("; make room")


def test_the_first_of_many_files_that_could_not_be_copied_is_named(tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "from/link").symlink_to("nowhere")
    told = explained(raised(lambda: shutil.copytree(tmp_path / "from", tmp_path / "to")))
    assert str(told).startswith(f"{tmp_path / 'to/link'}: cannot be written (")


def test_too_little_memory_is_told_as_that():
    for action in (lambda: torch.empty(2**50), lambda: bytearray(2**60)):
        assert explained(raised(action)).public == "there is too little memory"


def test_what_a_damaged_file_makes_its_reader_raise_is_the_files_fault():
    told = explained(TypeError("unhashable type: 'list'"), reading=Path("/data/a.json"))
    assert isinstance(told, DataError)
    assert str(told).startswith("/data/a.json: cannot be read (TypeError: unhashable type: 'list')")
    assert told.public == "a file cannot be read (TypeError)"


def test_the_traceback_of_what_nobody_foresaw_is_kept_for_its_owner(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = explained(raised(lambda: {}["secret/path"]))
    (kept,) = tmp_path.iterdir()
    assert isinstance(told, UnexpectedError)
    assert str(told) == f"unexpected KeyError: 'secret/path'; please report it with {kept}"
    assert told.public == "unexpected KeyError"
    assert "Traceback" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert "test_errors.py" in str(explained(raised(lambda: {}["x"])))
