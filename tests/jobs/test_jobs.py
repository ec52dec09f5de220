import importlib
import json

import pytest
from tiny_job import REPOSITORY

from mucald.aggregation import make_rule
from mucald.methods.jobs import load_job
from mucald.methods.split.algorithms import make_algorithm, participants
from mucald.methods.split.model.segments import ServerSegments
from mucald.tasks import get_task

JOBS = sorted(path.parent for path in (REPOSITORY / "jobs").glob("*/meta.json"))


@pytest.fixture(params=JOBS, ids=lambda path: path.name)
def job(request):
    return request.param


def test_there_are_jobs():
    assert REPOSITORY / "jobs/mucald" in JOBS


def test_the_configuration_is_whole_and_can_be_built(job):
    config, sites = load_job(job)
    assert set(sites) == set(participants(config))
    make_algorithm(config.algorithm).check(config)
    make_rule(config.aggregation.rule, config.aggregation.args)
    for site in config.sites:
        ServerSegments(config, get_task(config.site(site).task))


def test_names_and_numbers_of_sites_agree(job):
    meta = json.loads((job / "meta.json").read_text())
    config, _ = load_job(job)
    assert meta["name"] == config.name == job.name
    assert meta["min_clients"] == config.min_sites


def test_flare_finds_the_classes_that_the_job_names(job):
    folder = job / "app" / "config"
    server = json.loads((folder / "config_fed_server.json").read_text())
    client = json.loads((folder / "config_fed_client.json").read_text())
    (workflow,), (executor,) = server["workflows"], client["executors"]
    assert executor["tasks"] == ["train", "test"]
    for path in (workflow["path"], executor["executor"]["path"]):
        module, name = path.rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), name))


def test_a_job_is_configuration_and_holds_no_code(job):
    assert not list(job.rglob("*.py"))
    assert not [path for path in job.rglob("*") if path.is_symlink()], "FLARE refuses symlinks in a job"
    assert any((job / "app" / "custom").iterdir()), (
        "the simulator loads installed classes only with app/custom"
    )
