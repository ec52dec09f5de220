"""A site whose process is killed within a task and started again changes no number."""

import json

import pytest
from fragile_line import killed_after, run_restarting
from tiny_job import Federation, Run, equal_tensors, run_job, tiny_config

from mucald.errors import WireError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_job(tiny_config(), tmp_path_factory.mktemp("whole"))


# The first round has 4 requests, the second 6 with its validation, and the test 3.
@pytest.mark.parametrize("requests", [0, 3, 5, 9, 12])
def test_a_site_killed_anywhere_and_started_again_gives_the_numbers_of_an_undisturbed_run(
    requests, whole, tmp_path
):
    config = tiny_config()
    federation = Federation(config, tmp_path / "killed", carrier=killed_after("south", requests))
    assert run_restarting(federation) == 1
    results = json.loads((tmp_path / "killed/results/results.json").read_text())
    assert Run(tmp_path / "killed", results).numbers() == whole.numbers()
    for site in config.sites:
        model = whole.models()[f"results/server/models/{site}.safetensors"]
        assert equal_tensors(dict(federation.copies[site].segments.state_dict()), model)


def test_only_the_site_that_was_started_again_goes_back(tmp_path):
    federation = Federation(tiny_config(), tmp_path)
    task = federation.open_next()
    for name in federation.config.sites:
        federation.work(name, task)
    before = {name: federation.parameters(name) for name in federation.config.sites}
    federation.coordinator.restart("south")
    changed = {name for name in before if not equal_tensors(federation.parameters(name), before[name])}
    assert changed == {"south"}


def test_without_the_server_being_told_a_site_that_begins_again_is_refused(tmp_path):
    federation = Federation(tiny_config(), tmp_path, new_process=True)
    task = federation.open_next()
    federation.work("south", task)
    for file in (tmp_path / "home/south/runs").rglob("round-001/*"):
        file.unlink()
    with pytest.raises(WireError, match="out of order"):
        federation.work("south", task)
