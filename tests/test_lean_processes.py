"""What a process imports: MONAI and scipy.stats take longer than torch, and the simulator starts dozens."""

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_job import REPOSITORY

HEADER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
folder = Path({folder!r})
"""
REPORT = """
heavy = ("monai", "scipy.stats", "scipy.signal", "torch._dynamo", "pandas", "sqlite3")
print("loaded", *(name for name in heavy if name in sys.modules))
"""
PROGRAMS = {
    "the adapters": """
import mucald.flare.controller, mucald.flare.executor
""",
    "a server with its steps": """
import mucald.flare.controller
from tiny_job import CPU, Federation, request, tiny_config
from mucald.methods.split.wire.messages import Phase
federation = Federation(tiny_config(), folder)
federation.coordinator.open(next(federation.coordinator.tasks()))
for phase in (Phase.TRAIN_FORWARD, Phase.TRAIN_BACKWARD):
    assert federation.coordinator.handle("north", request(phase))
""",
    "a site with its data and proxies": """
import mucald.flare.executor
from tiny_job import CPU, tiny_config
from mucald.federation.participant import create_site
from mucald.methods import family_of
site = create_site(family_of("split"), "north", tiny_config(), folder, "run", CPU)
assert site._data.train.measures.isfinite().any()
""",
    "sites that segment volumes of one patch": """
from families import config_of
from tiny_job import Federation
sites = {"north": {"task": "liver"}, "south": {"task": "brain"}}
federation = Federation(config_of("weights volumes", sites=sites), folder)
federation.run()
assert not federation.coordinator._history.failures
""",
    "sites and a server that train, validate and test": """
from tiny_job import Federation, tiny_config
federation = Federation(tiny_config(training={"schedule": "cosine"}), folder)
federation.run()
assert not federation.coordinator._history.failures
""",
}


def loaded(program: str, folder: Path) -> list[str]:
    """Return which of the heavy modules a process has when it has run the program."""
    text = HEADER.format(tests=str(REPOSITORY / "tests"), folder=str(folder)) + program + REPORT
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    word, *names = done.stdout.splitlines()[-1].split()
    assert word == "loaded"
    return names


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_needs_no_heavy_module_loads_none(name, tmp_path):
    assert loaded(PROGRAMS[name], tmp_path) == []


def test_sites_that_augment_load_monai(tmp_path):
    """So it is for them alone; their server, which turns what it holds, needs none of it."""
    program = """
from tiny_job import Federation, tiny_config
federation = Federation(tiny_config(training={"augmentation": 1.0}), folder)
federation.run(1)
"""
    assert "monai" in loaded(program, tmp_path)


def test_a_swin_unet_is_built_with_monai(tmp_path):
    """So the others look for something that is there."""
    assert {"monai", "scipy.stats"} <= set(loaded("import mucald.nets.swin_unet", tmp_path))
