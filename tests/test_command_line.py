"""How commands read arguments and how they end."""

import argparse
import os
import signal
import subprocess
import sys

import pytest
from tiny_job import REPOSITORY

from mucald.command_line import Parser, add_room_options, at_least, check_free, program
from mucald.errors import ConfigError, InterruptedRunError, WorkspaceError


def test_a_wrong_argument_is_one_line_and_status_2(capsys):
    parser = Parser(description="several\nlines")
    parser.add_argument("--rounds", type=at_least(1))
    for arguments, said in (
        (["--rounds", "0"], "argument --rounds: must be a whole number of at least 1, not '0'"),
        (["--round\n", "1"], "unrecognized arguments: --round 1"),
    ):
        with pytest.raises(SystemExit) as stop:
            parser.parse_args(arguments)
        assert stop.value.code == 2
        assert capsys.readouterr().err == f"error: {said} (--help tells the use)\n"


@pytest.mark.parametrize("text", ["", "x", "0", "nan", "inf", "-3", str(2**31)])
def test_a_number_is_finite_and_not_too_small(text):
    for kind in (int, float):
        with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
            at_least(1, kind)(text)
    assert at_least(0, float)("0.5") == 0.5
    assert at_least(1)("3") == 3


@pytest.mark.parametrize(
    ("option", "wrong", "said"),
    [
        ("--seed", "x", "must be a whole number, not 'x'"),
        ("--seed", "1.5", "must be a whole number, not '1.5'"),
        ("--rate", "fast", "must be a number, not 'fast'"),
        ("--rate", "nan", "must be a number, not 'nan'"),
        (
            "--rounds",
            "9" * 12,
            f"must be a whole number of at least 1 and at most {2**31 - 1}, not '{'9' * 12}'",
        ),
    ],
)
def test_what_is_no_number_is_told_without_the_names_of_types(option, wrong, said, capsys):
    parser = Parser()
    command = parser.add_subparsers(dest="command").add_parser("run")
    for one in (parser, command):
        one.add_argument("--rounds", type=at_least(1))
        one.add_argument("--seed", type=int)
        one.add_argument("--rate", type=float)
    assert parser.parse_args(["--seed", str(-(2**40)), "--rate", "-0.5"]).seed == -(2**40)
    for before in ([], ["run"]):
        with pytest.raises(SystemExit) as stop:
            parser.parse_args([*before, option, wrong])
        assert stop.value.code == 2
        assert capsys.readouterr().err == f"error: argument {option}: {said} (--help tells the use)\n"


def test_earlier_results_are_deleted_or_kept_but_not_both(capsys):
    parser = Parser()
    add_room_options(parser, "elsewhere")
    for given, force, keep in (([], False, False), (["--force"], True, False), (["--keep"], False, True)):
        found = parser.parse_args(given)
        assert (found.force, found.keep) == (force, keep)
    with pytest.raises(SystemExit):
        parser.parse_args(["--keep", "--force"])
    assert "argument --force: not allowed with argument --keep" in capsys.readouterr().err


def test_what_is_there_is_written_over_only_if_that_is_said(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    check_free([tmp_path / "new"], force=False)
    for name in ("file", "link"):
        check_free([tmp_path / name], force=True)
        with pytest.raises(WorkspaceError, match=rf"{name} exists; give another place, or --force"):
            check_free([tmp_path / "new", tmp_path / name], force=False)


def ended(error: BaseException | int) -> int:
    @program
    def main(argv: list[str] | None = None) -> int:  # noqa: ARG001 - a command takes arguments
        if isinstance(error, int):
            signal.raise_signal(error)
            return 0
        raise error

    return main([])


def test_an_error_is_one_line_and_status_1(capsys, tmp_path):
    for error, said in (
        (ConfigError("two\nlines"), "error: two lines"),
        (FileNotFoundError(2, "No such file", str(tmp_path)), f"error: {tmp_path}: does not exist"),
    ):
        assert ended(error) == 1
        assert capsys.readouterr().err == f"{said}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_with_its_status(number, capsys):
    before = signal.getsignal(number)
    assert ended(number) == 128 + number
    assert capsys.readouterr().err == "stopped\n"
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("command", [["-m", "mucald", "jobs/mucald"], ["tools/check_data.py", "site.json"]])
def test_who_stops_a_command_while_it_imports_sees_no_traceback(command, tmp_path):
    (tmp_path / "torch.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{REPOSITORY / 'custom'}"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_who_is_stopped_says_how_to_go_on(capsys):
    assert ended(InterruptedRunError("stopped; to go on, do this")) == 130
    assert capsys.readouterr().err == "stopped; to go on, do this\n"


def test_a_signal_that_is_ignored_stays_so():
    """As the closing of the terminal is under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ended(signal.SIGHUP) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} tools/show_job.py jobs/mucald | head -c 1"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, shell=True, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("{", "")
