"""Times named functions from outside: what each takes itself, without what it calls of the others."""

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Part:
    """A function to be timed.

    Args:
        owner: class or module that has it.
        name: its name there.
        label: the part of a step that it belongs to.
        side: ``site`` or ``server``; None for whoever calls it.
        root: whether time is taken from here on even if nothing around it is timed.
        counts: whether its calls are the steps.
        keep: tells from the arguments whether all that the root around this call found is of interest; a root
            in which no call says so leaves nothing.
    """

    owner: Any
    name: str
    label: str
    side: str | None = None
    root: bool = False
    counts: bool = False
    keep: Callable[..., bool] | None = None


@dataclass
class Ledger:
    """Seconds by side and part, how many steps were made, and when the server was at work."""

    seconds: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    steps: int = 0
    served: list[tuple[float, float]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the ledger as JSON."""
        parts = [[side, label, seconds] for (side, label), seconds in self.seconds.items()]
        return {"parts": parts, "steps": self.steps, "served": self.served}

    def add(self, content: dict[str, Any]) -> None:
        """Add what another process's :meth:`to_dict` returned."""
        for side, label, seconds in content["parts"]:
            self.seconds[side, label] += seconds
        self.steps += content["steps"]
        self.served += [(start, end) for start, end in content["served"]]

    def of(self, side: str) -> dict[str, float]:
        """Return seconds by part of one side, the largest first."""
        found = {label: seconds for (where, label), seconds in self.seconds.items() if where == side}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def busy(self) -> tuple[float, float]:
        """Return the seconds from the server's first step to its last, and in how many it was at work."""
        busy = reached = 0.0
        for start, end in sorted(self.served):
            busy += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return (reached - min(self.served)[0] if self.served else 0.0), busy


class _Thread(threading.local):
    """What one thread is doing: the parts that it is in, and since when it is in the innermost."""

    def __init__(self) -> None:
        self.stack: list[tuple[str, str]] = []
        self.since = 0.0
        self.serving_since = 0.0
        self.found: defaultdict[tuple[str, str], float] = defaultdict(float)
        self.steps = 0
        self.kept = False


class Probe:
    """Times parts while it is installed.

    Args:
        parts: what to time.
    """

    def __init__(self, parts: Sequence[Part]):
        self._parts = parts
        self._thread = _Thread()
        self._lock = threading.Lock()
        self.ledger = Ledger()

    @contextmanager
    def installed(self) -> Iterator[Ledger]:
        """Time the parts within this context; yields what is found."""
        originals = [(part, getattr(part.owner, part.name)) for part in self._parts]
        try:
            for part, function in originals:
                setattr(part.owner, part.name, self._timed(part, function))
            yield self.ledger
        finally:
            for part, function in reversed(originals):
                setattr(part.owner, part.name, function)

    def _timed(self, part: Part, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            thread = self._thread
            if not thread.stack and not part.root:
                return function(*args, **kwargs)
            if part.keep is not None and part.keep(*args, **kwargs):
                thread.kept = True
            self._enter(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._leave()

        return timed

    def _enter(self, part: Part) -> None:
        thread = self._thread
        self._charge()
        side = part.side or thread.stack[-1][0]
        if side == "server" and not self._serving():
            thread.serving_since = thread.since
        thread.stack.append((side, part.label))
        thread.steps += part.counts

    def _leave(self) -> None:
        thread = self._thread
        self._charge()
        side, _ = thread.stack.pop()
        if side == "server" and not self._serving() and thread.kept:
            with self._lock:
                self.ledger.served.append((thread.serving_since, thread.since))
        if not thread.stack:
            self._settle()

    def _serving(self) -> bool:
        return bool(self._thread.stack) and self._thread.stack[-1][0] == "server"

    def _charge(self) -> None:
        """Charge the time since the last change to the innermost part."""
        if torch.cuda.is_available():
            # Otherwise a part would only be charged for handing its work to the GPU.
            torch.cuda.synchronize()
        thread, now = self._thread, time.perf_counter()
        if thread.stack:
            thread.found[thread.stack[-1]] += now - thread.since
        thread.since = now

    def _settle(self) -> None:
        """Move what a thread has found to the ledger when it leaves its root."""
        thread = self._thread
        if thread.kept:
            with self._lock:
                for key, seconds in thread.found.items():
                    self.ledger.seconds[key] += seconds
                self.ledger.steps += thread.steps
        thread.found, thread.steps, thread.kept = defaultdict(float), 0, False
