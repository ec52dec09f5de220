"""Makes the next thing while the present one is in use."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from mucald.device import settle_threads

From = TypeVar("From")
Made = TypeVar("Made")


def one_ahead(make: Callable[[From], Made], items: Iterable[From]) -> Generator[Made, None, None]:
    """Yield ``make(item)`` for every item in order, each made in a thread while the one before it is in use.

    What ``make`` reads must not change meanwhile; then nothing depends on which of the two is faster. An
    error in ``make`` is raised where its result would have come.
    """
    with ThreadPoolExecutor(1, initializer=settle_threads) as thread:
        present: Future[Made] | None = None
        for item in items:
            following = thread.submit(make, item)
            if present is not None:
                yield present.result()
            present = following
        if present is not None:
            yield present.result()
