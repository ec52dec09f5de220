import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, sys, threading
sys.path.insert(0, {tests!r})
import torch
from tiny_job import CPU, make_copy, request, server_of, tiny_config
from mucald.data.prefetch import one_ahead
from mucald.methods.split.server.discriminators import Discriminators
from mucald.methods.split.wire.messages import Phase

gomp = next(line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line)
count = ctypes.CDLL(gomp).omp_get_max_threads
torch.set_num_threads(1)
config = tiny_config()
copies = {{site: make_copy(config, site) for site in config.sites}}
server = server_of(config, copies, Discriminators(config, CPU).modules)
server.open_round(0, list(config.sites))
seen = []

def step(*_):
    seen.append(count())
    raise RuntimeError("seen")

copies["north"].train_forward = step
handler = threading.Thread(target=lambda: server.handle("north", request(Phase.TRAIN_FORWARD)))
handler.start()
handler.join()
bare = []
plain = threading.Thread(target=lambda: bare.append(count()))
plain.start()
plain.join()
print(bare[0], seen[0], *one_ahead(lambda _: count(), [1]))
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="OpenMP's library is found there")
def test_a_new_thread_computes_with_the_job_s_number_of_threads():
    """What a thread does by itself is every core; there the numbers would depend on their count."""
    program = PROGRAM.format(tests=str(Path(__file__).parent))
    environment = os.environ | {"OMP_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["3", "1", "1"], done.stderr
