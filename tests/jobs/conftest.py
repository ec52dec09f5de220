"""One run of each shrunk job for all tests of the jobs, which ``xdist_group("jobs")`` keeps in one worker."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from seen_jobs import Seen


@pytest.fixture(scope="session")
def seen(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[str], Seen]":
    """Return what runs a job, once."""
    # Imported here, because the tests of single modules start faster without it.
    from seen_jobs import see

    return cache(lambda job: see(job, tmp_path_factory.mktemp(job)))
