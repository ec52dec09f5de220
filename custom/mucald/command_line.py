"""What all commands have in common: how they read arguments, what they write over, and how they end."""

import argparse
import contextlib
import functools
import json
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from mucald.errors import InterruptedRunError, WorkspaceError, explained

OF_SIGNAL = 128
"""A command that a signal ends has the status 128 plus the signal's number."""

WRONG_USE = 2

FORCE: dict[str, Any] = {"action": "store_true", "help": "write over what is there"}
"""What ``--force`` is for a parser, see :func:`check_free`."""

STATUSES = """exit status: 0 done; 1 something is wrong (a line that begins with "error:" tells what), or must
be mended; 2 wrong use; 128 + n stopped by signal n, so 130 after Ctrl-C"""
"""What the exit status of every command means, for its help."""

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LARGEST = 2**31 - 1


class Parser(argparse.ArgumentParser):
    """Reads arguments; a wrong one is told in one line."""

    def __init__(self, **options: Any):
        shared = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": STATUSES}
        super().__init__(**{**shared, **options})
        # Of the type int argparse would say "invalid int value".
        for kind in (int, float):
            self.register("type", kind, at_least(None, kind))
        self.register("type", Path, _path)

    def format_help(self) -> str:
        """Return the help, of which a docstring is a part, without the marks that Sphinx reads."""
        return plain(super().format_help())

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end with the status 2."""
        _say(f"error: {message} (--help tells the use)")
        self.exit(WRONG_USE)


class WrongUseError(Exception):
    """The arguments do not go together; the command ends as for any wrong argument."""


@dataclass(frozen=True)
class Found:
    """What a command found.

    Args:
        value: for machines, printed with ``--json``; what :mod:`json` can write.
        status: the exit status.
    """

    value: Any
    status: int = 0


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--json`` to a command that returns :class:`Found`."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON, and all else on standard error"
    )


def command(
    describe: Callable[[], Parser], run: Callable[[argparse.Namespace], int | Found]
) -> Callable[[list[str] | None], int]:
    """Make a command of the description of its arguments and of what it does with them.

    Args:
        describe: returns the parser; it is called anew for every command line.
        run: prints for people; returns the exit status, or what was found. It may raise
            :class:`WrongUseError`, and whatever :func:`program` tells of.
    """

    def main(argv: list[str] | None = None) -> int:
        parser = describe()
        arguments = parser.parse_args(argv)
        as_json = getattr(arguments, "json", False)
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            try:
                found = run(arguments)
            except WrongUseError as error:
                parser.error(str(error))
        if isinstance(found, int):
            return found
        if as_json:
            print(json.dumps(found.value, indent=2, ensure_ascii=False, default=str))
        return found.status

    main.__module__ = run.__module__
    return program(main)


def plain(docstring: str) -> str:
    """Return a docstring as a terminal shows it: code stands in single quotes."""
    return docstring.replace("``", "'")


def _path(text: str) -> Path:
    if not text.strip():
        # A variable of the shell that is not set; Path takes it for the folder of whoever gives the command.
        raise argparse.ArgumentTypeError("must name a file or folder, not nothing")
    return Path(text)


def file_in(name: str) -> Callable[[str], Path]:
    """Return what reads the path of a file that exists from an argument, and says so of its folder's.

    Args:
        name: the file's usual name.
    """

    def path(text: str) -> Path:
        found = _path(text)
        if found.is_dir():
            raise argparse.ArgumentTypeError(f"{text} is a folder; give {found / name}")
        if not found.exists():
            raise argparse.ArgumentTypeError(f"{text} does not exist; give the path of a {name}")
        return found

    return path


def folder(text: str) -> Path:
    """Read the path of a folder that exists from an argument."""
    if not _path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return Path(text)


def at_least(least: float | None, kind: type[int] | type[float] = int) -> Callable[[str], Any]:
    """Return what reads a number from an argument and refuses one that is smaller, or not finite.

    Without a ``least`` any number will do.
    """
    low, high = (-sys.float_info.max, sys.float_info.max) if least is None else (least, _LARGEST)

    def number(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            what = "a whole number" if kind is int else "a number"
            what += "" if least is None else f" of at least {least}"
            what += f" and at most {high}" * (high < value < math.inf)
            raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}")
        return value

    return number


def add_room_options(parser: Parser, kept: str) -> None:
    """Add what may become of an earlier run's results in a workspace; without either they are in the way.

    Args:
        parser: gets ``--force`` and ``--keep``, of which one can be given.
        kept: where ``--keep`` moves them, in words.
    """
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--force", action="store_true", help="delete results of an earlier run")
    choice.add_argument("--keep", action="store_true", help=f"move results of an earlier run to {kept}")


def check_free(paths: Iterable[Path], force: bool) -> None:
    """Check that nothing lies where a command is to write, unless it may be written over.

    Raises:
        WorkspaceError: naming what lies there.
    """
    for path in paths:
        if (path.exists() or path.is_symlink()) and not force:
            raise WorkspaceError(f"{path} exists; give another place, or --force to write over it")


def program(main: Callable[..., int]) -> Callable[..., int]:
    """Make a program of a function that takes arguments and returns the exit status.

    An error is one line and the status 1. Ctrl-C, a SIGTERM and a closed terminal stop it with the status of
    their signal; a second one ends the process at once.
    """

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        # A terminal that is closed would otherwise be told of each line that it cannot show.
        logging.raiseExceptions = False
        received: list[int] = []

        def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal names it
            if received:
                os._exit(OF_SIGNAL + number)
            received.append(number)
            raise KeyboardInterrupt

        # What is ignored stays so, as under nohup.
        kept = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, stop) for number in kept}
        try:
            status = main(argv)
            sys.stdout.flush()
        except BrokenPipeError:
            # Who read the output has seen enough, as in `… | head`; nor can Python tell them at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OF_SIGNAL + signal.SIGPIPE
        except (KeyboardInterrupt, InterruptedRunError) as error:
            _say(str(error) or "stopped")
            return OF_SIGNAL + (received or [signal.SIGINT])[0]
        except Exception as error:  # noqa: BLE001 - the end of the command: a user is told, not shown a traceback
            _say(f"error: {explained(error)}")
            return 1
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return status

    return run


def _stopped_early(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End a command that is stopped before :func:`program` has begun: its imports take seconds."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    _say("stopped")
    os._exit(OF_SIGNAL + signal.SIGINT)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _stopped_early


def leave(status: int) -> NoReturn:
    """End the process; threads that a signal has left at work end with it."""
    if status > OF_SIGNAL:
        logging.shutdown()
        os._exit(status)
    sys.exit(status)


def _say(text: str) -> None:
    # If the terminal is gone, so is who would read it.
    with contextlib.suppress(OSError):
        print(" ".join(text.split()), file=sys.stderr, flush=True)
