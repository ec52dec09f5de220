"""One thread for every test, and one run of the tiny job that many tests look at."""

import os
import signal
from typing import TYPE_CHECKING

import pytest
import torch

# A shell that starts the tests in the background ignores Ctrl-C, nohup a closed terminal, and so would all
# commands that they start.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

if TYPE_CHECKING:
    from recording import Recording

# The threads of tiny tensors mostly wait for each other. Processes that tests start inherit the variable.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

pytest_plugins = ["simulator_fixtures"]


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> "Recording":
    """Run the full method once, with listeners on the wire."""
    # Imported here, because the tests of single modules start faster without it.
    from recording import record_run
    from tiny_job import tiny_config

    return record_run(tiny_config(), tmp_path_factory.mktemp("full"))
