"""What a person at a terminal sees while a command works."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
LONG = 10.0
"""Seconds after which who waits is told how long it will last."""
_BETWEEN_LINES = 0.5


def clock(seconds: float) -> str:
    """Return ``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def time_left(passed: float, done: int, total: int) -> str:
    """Return about how long the rest of ``total`` steps takes, if ``done`` (1 or more) took ``passed`` s."""
    return clock(passed / done * max(total - done, 0))


class Countdown:
    """Estimates how long the rest of some steps takes, by those that are done.

    Args:
        total: number of steps; time counts from now.
    """

    def __init__(self, total: int):
        self._total, self._start = total, time.monotonic()

    def left(self, done: int) -> str:
        """Return the time left when ``done`` steps, at least 1, are over."""
        return time_left(time.monotonic() - self._start, done, self._total)


def watched(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield items, and say on the terminal how many are done and about how long the others will take.

    Nothing is said in the first ten seconds, and nothing at all where standard error is no terminal.

    Args:
        items: what is worked on, one by one.
        what: its name in the plural.
        total: number of items; their length by default.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    count = total if total is not None else len(items) if isinstance(items, Sized) else None
    start = shown = time.monotonic()
    try:
        for done, item in enumerate(items):
            now = time.monotonic()
            if done and now - start >= LONG and now - shown >= _BETWEEN_LINES:
                shown = now
                _show(_line(what, done, count, now - start))
            yield item
    finally:
        if shown > start:
            _show("")


def _line(what: str, done: int, count: int | None, passed: float) -> str:
    if count is None:
        return f"{done} {what} | {clock(passed)} passed"
    return f"{done}/{count} {what} | {clock(passed)} passed, about {time_left(passed, done, count)} left"


def _show(text: str) -> None:
    # Carriage return, and erase to the end of the line.
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()
