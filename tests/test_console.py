"""What is said on a terminal while a command works."""

import io
import itertools
import sys
from collections.abc import Iterable

import pytest

from mucald import console
from mucald.console import Countdown, watched


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(monkeypatch: pytest.MonkeyPatch, items: Iterable[str], stream: io.StringIO, tick: int = 4) -> str:
    """Return what a stream is told of items, of which each takes ``tick`` seconds."""
    now = itertools.count(0, tick)
    with monkeypatch.context() as patch:
        patch.setattr(console.time, "monotonic", lambda: next(now))
        patch.setattr(sys, "stderr", stream)
        assert "".join(watched(items, "images")) == "abcdef"
    return stream.getvalue()


def test_what_lasts_longer_than_ten_seconds_tells_the_time_left(monkeypatch):
    first, *others = said(monkeypatch, "abcdef", Terminal()).split("\r\x1b[K")[1:]
    assert first == "2/6 images | 0:12 passed, about 0:24 left"
    assert len(others) == 4
    assert others[-1] == "", "the line is wiped at the end"


def test_the_time_left_follows_from_the_steps_that_are_done(monkeypatch):
    now = iter((100.0, 130.0, 160.0))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    countdown = Countdown(4)
    assert (countdown.left(1), countdown.left(3)) == ("1:30", "0:20")


def test_of_unknown_length_only_the_time_passed_is_told(monkeypatch):
    text = said(monkeypatch, iter("abcdef"), Terminal())
    assert "5 images | 0:24 passed" in text
    assert "left" not in text


def test_nothing_is_said_where_nobody_looks_or_the_work_is_short(monkeypatch):
    assert said(monkeypatch, "abcdef", io.StringIO()) == ""
    assert said(monkeypatch, "abcdef", Terminal(), tick=1) == ""
