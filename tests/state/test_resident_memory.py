"""The memory of a run does not grow with its rounds."""

import gc

import psutil
import pytest
from tiny_job import Federation, tiny_config

WARM_UP, ROUNDS, GROWTH = 6, 26, 0.02


@pytest.mark.slow
def test_memory_of_server_and_sites_is_flat_over_twenty_rounds(tmp_path):
    """All in one process, with every part of the method, once everything has been in use."""
    federation = Federation(tiny_config(training={"rounds": ROUNDS}), tmp_path)
    resident = []
    for _ in range(ROUNDS):
        federation.run(1)
        gc.collect()
        resident.append(psutil.Process().memory_info().rss)
    start, end = resident[WARM_UP - 1], resident[-1]
    assert end < (1 + GROWTH) * start, [round(value / 1e6, 1) for value in resident]
