"""One run of the tiny job that many tests look at."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from recording import Recording


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> "Recording":
    """Run the full method once, with listeners on the wire."""
    # Imported here, because the tests of single modules start faster without it.
    from recording import record_run
    from tiny_job import tiny_config

    return record_run(tiny_config(), tmp_path_factory.mktemp("full"))
