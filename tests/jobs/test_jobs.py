import importlib
import json

import pytest
from shrunk_jobs import JOBS, ROOT
from tiny_job import CPU, Clock

from mucald.federation.admission import check_participants
from mucald.federation.attendance import Attendance
from mucald.federation.method import ServerContext
from mucald.methods import family_of
from mucald.methods.jobs import load_job
from mucald.nets import backbone_of
from mucald.privacy.policy import OPEN, check_disclosures
from mucald.state.checkpoint import CheckpointStore


@pytest.fixture(params=JOBS, ids=lambda path: path.name)
def job(request):
    return request.param


def test_there_are_jobs():
    assert ROOT / "mucald" in JOBS


def test_the_configuration_is_whole_and_can_be_built(job, tmp_path):
    config, sites = load_job(job)
    family = family_of(config.method)
    assert set(sites) == set(family.participants(config))
    check_participants(family, config, sites)
    attendance = Attendance(0, Clock())
    context = ServerContext("run", CheckpointStore(tmp_path / "run"), tmp_path, CPU, attendance)
    family.server(config, sites, context).begin_round(0)
    backbone_of(config.network).check_image_size(config.data.image_size)
    check_disclosures(OPEN, "embryo", family.disclosures(config))


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
