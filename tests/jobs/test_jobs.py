"""What the files of a job say."""

import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from shrunk_jobs import JOBS, ROOT, base_of_file, resolved
from tiny_job import CPU, Clock

from mucald.config.merge import differences
from mucald.federation.admission import check_participants
from mucald.federation.attendance import Attendance
from mucald.federation.method import ServerContext
from mucald.methods import family_of
from mucald.methods.generative import algorithms as generative
from mucald.methods.jobs import base_of, load_job
from mucald.methods.split import algorithms as split
from mucald.methods.weights import algorithms as weights
from mucald.nets.whole import whole_plan
from mucald.privacy.disclosure import KINDS
from mucald.state.checkpoint import CheckpointStore
from mucald.tasks import get_task

CONSORTIUM = "consortium_groups"
"""The jobs whose names begin alike have sites, data and schedule of their own."""

EMBEDDINGS = "dpcvae"
"""The jobs whose names begin so share synthetic embeddings, and have sites and data of their own."""

LONGER = {"mucald", "baseline_shallow"}
"""Trained as practitioners do, and for longer than the jobs that are compared with each other."""

FULL = [path.name for path in JOBS if base_of_file(path) == "split/consortium"]
"""The full method on the consortium's sites, which trains alone, with the server, and at home in turn."""

VOLUMES = "weights/fedcmt"
"""The base of the jobs on volumes."""

VOLUMES_TOGETHER = "pooled/volumes"
"""The base of the same on pooled data."""

POOLED = dict.fromkeys(
    ("baseline_centralized", "consortium_centralized", "dpcvae_centralised", "fedcmt_centralised"), "pooled"
)
"""Jobs in which one participant holds the data of all sites, and its name."""


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
    if hasattr(config, "network"):
        plan = whole_plan(config.network, 3.0)
        for site in sites:
            for member in family.members(config, site):
                plan.check(config.data, get_task(config.site(member).task))
    assert {disclosure.kind for disclosure in family.disclosures(config)} <= set(KINDS)


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


def test_a_job_says_what_differs_from_its_base_in_a_dozen_lines_and_nothing_else(job):
    text = (job / "app/config/mucald.json").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 12
    content, base = json.loads(text), base_of(job)
    assert base is not None
    found = differences(base.to_dict(), resolved(job))
    for key in ("name", "description"):
        assert content[key] == found.pop(key, base.to_dict()[key])
    for key in content.get("set", {}):
        assert any(f"{one}.".startswith(f"{key}.") for one in found), f"{key} is as in the base"


def test_the_other_files_are_those_of_the_main_job(job):
    def files(folder: Path) -> dict[str, bytes]:
        paths = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    own, main = files(job), files(ROOT / "mucald")
    assert own.keys() == main.keys()
    assert {name for name in own if own[name] != main[name]} <= {"meta.json", "app/config/mucald.json"}
    expected = json.loads(main["meta.json"]) | {"name": job.name}
    if job.name.startswith(("consortium_", EMBEDDINGS)) or base_of_file(job) == VOLUMES:
        expected |= {"deploy_map": {"app": ["server", *resolved(job)["sites"]]}}
    if job.name in POOLED:
        expected |= {"min_clients": 1, "deploy_map": {"app": ["server", POOLED[job.name]]}}
    assert json.loads(own["meta.json"]) == expected


def test_a_job_says_what_it_is(job):
    content = resolved(job)
    assert content["name"] == job.name
    others = [resolved(other)["description"] for other in JOBS if other != job]
    assert content["description"] not in others
    assert ("TOGETHER" in content["description"]) is (job.name in POOLED)
    sends_clean = content["method"] == "split" and not content["release"]["noised"]
    assert ("WITHOUT noise" in content["description"]) is sends_clean


def test_all_jobs_that_are_compared_have_the_same_sites_data_schedule_and_seed(job):
    starts = {"consortium_": CONSORTIUM, EMBEDDINGS: EMBEDDINGS}
    other = next((one for start, one in starts.items() if job.name.startswith(start)), "mucald_strict")
    if base_of_file(job) in (VOLUMES, VOLUMES_TOGETHER):
        other = "fedcmt"
    free = {*LONGER, *FULL, *(path.name for path in JOBS if path.name.startswith(EMBEDDINGS))}
    keys = {"sites", "data", "seed"} | (set() if job.name in free else {"training"})
    keys |= {"optimiser"} if base_of_file(job) == VOLUMES_TOGETHER else set()
    for key in keys:
        assert _from_the_first_round(resolved(job))[key] == resolved(other)[key]


def _from_the_first_round(content: dict[str, Any]) -> dict[str, Any]:
    sites = {name: site | {"joins_at_round": 0} for name, site in content["sites"].items()}
    return content | {"sites": sites}


@pytest.mark.parametrize("name", FULL)
def test_the_full_method_makes_as_many_passes_as_the_other_jobs_of_the_consortium(name):
    full, other = resolved(name), resolved(CONSORTIUM)
    alone, at_home = full["release"]["pretraining_epochs"], full["handover"]["epochs"]
    assert min(alone, at_home) > 0
    assert alone + _passes(full) + at_home == _passes(other)
    assert full["training"] == other["training"] | {"rounds": full["training"]["rounds"]}


def test_alone_the_default_jobs_own_levels_pass_over_the_data_as_often_and_in_the_same_way():
    default, shallow = resolved("mucald"), resolved("baseline_shallow")
    passes = default["release"]["pretraining_epochs"] + default["handover"]["epochs"]
    assert _passes(shallow) == passes + _passes(default)
    counts = ("rounds", "local_epochs")
    for content in (default, shallow):
        content["training"] = {key: content["training"][key] for key in content["training"].keys() - counts}
    assert shallow["training"] == default["training"]
    own = default["network"]["features"][: default["network"]["cut"]]
    assert shallow["network"] == default["network"] | {"features": own}
    assert shallow["shared"] == []


def _passes(content: dict[str, Any]) -> int:
    return content["training"]["rounds"] * content["training"]["local_epochs"]


def test_a_consortium_has_sites_of_one_task_with_other_devices():
    sites = resolved(CONSORTIUM)["sites"]
    counts = Counter(site["task"] for site in sites.values())
    assert (len(sites), len(counts)) == (8, 4)
    assert sorted(counts.values()) == [1, 2, 2, 3]
    assert len({(site["task"], site["scanner"]) for site in sites.values()}) == 8


def test_every_algorithm_is_used_by_a_job():
    contents = [content for content in map(resolved, JOBS) if "algorithm" in content]
    families = {"split": split, "weights": weights, "generative": generative}
    for method, family in families.items():
        used = {content["algorithm"]["name"] for content in contents if content["method"] == method}
        assert used == set(family.ALGORITHMS)
