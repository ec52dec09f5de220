"""A site's training messages, sent beside its own work in an order that only the depth fixes."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from torch import Tensor

from mucald.device import settle_threads

Answer = TypeVar("Answer")


class Pipeline:
    """Sends the messages of a round's training steps in a thread of its own.

    With F(k) the request for the features of step k and B(k) its gradient, the order at depth d is F(0) …
    F(d − 1), B(0), F(d), B(1), F(d + 1) …, however long either side takes for its work. One message is on the
    wire at a time. While the site works on step k, the server does B(k − 1) and F(k + d − 1); at depth 1 what
    goes on meanwhile is the site's update alone.

    Requests begin at once. What ``forward`` and ``backward`` read must not change meanwhile.

    Args:
        forward: asks the server for the features of a step.
        backward: gives the server the gradient of a step.
        steps: how many there are, numbered from 0.
        depth: of how many steps the features are asked for before the first of them gives its gradient.
    """

    def __init__(
        self,
        forward: Callable[[int], Tensor],
        backward: Callable[[int, Tensor], None],
        steps: int,
        depth: int,
    ):
        self._forward, self._backward, self._steps, self._depth = forward, backward, steps, depth
        self._thread = ThreadPoolExecutor(1, initializer=settle_threads)
        self._error: Exception | None = None
        self._busy = self._waited = 0.0
        self._features: dict[int, Future[Tensor]] = {}
        self._last: Future[None] | None = None
        for step in range(min(depth, steps)):
            self._ask(step)

    @property
    def hidden(self) -> float:
        """Seconds that messages took while the site did its own work; complete after :meth:`finish`."""
        return max(self._busy - self._waited, 0.0)

    def features(self, step: int) -> Tensor:
        """Wait for the features (B, L, h, w) of a step.

        Raises:
            MucaldError: a message up to that one failed.
        """
        return self._wait(self._features.pop(step))

    def give(self, step: int, gradient: Tensor) -> None:
        """Let the gradient (B, L, h, w) of a step leave, and then the next request; returns at once."""
        self._last = self._thread.submit(self._talk, self._backward, step, gradient)
        if step + self._depth < self._steps:
            self._ask(step + self._depth)

    def finish(self) -> None:
        """Wait until the server has the last gradient.

        Raises:
            MucaldError: a message failed.
        """
        if self._last is not None:
            self._wait(self._last)

    def close(self) -> None:
        """Send nothing more; returns when the message that is on its way has come back."""
        self._thread.shutdown(cancel_futures=True)

    def _ask(self, step: int) -> None:
        self._features[step] = self._thread.submit(self._talk, self._forward, step)

    def _talk(self, send: Callable[..., Answer], *arguments: object) -> Answer:
        if self._error is not None:
            # The server would refuse what comes after a gap.
            raise self._error
        start = time.perf_counter()
        try:
            return send(*arguments)
        except Exception as error:
            self._error = error
            raise
        finally:
            self._busy += time.perf_counter() - start

    def _wait(self, answer: Future[Answer]) -> Answer:
        start = time.perf_counter()
        try:
            return answer.result()
        finally:
            self._waited += time.perf_counter() - start
