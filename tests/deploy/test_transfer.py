"""The jobs that lie ready in an admin's kit."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_job import CONTENT, REPOSITORY, write_job

from mucald.deploy.kits import Kit
from mucald.deploy.transfer import fill
from mucald.errors import ConfigError
from mucald.methods.jobs import load_job

SHIPPED = REPOSITORY / "jobs"


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    (tmp_path / "kit/transfer").mkdir(parents=True)
    return Kit(tmp_path / "kit", "admin", {"admin": {"host": "localhost", "port": 1}})


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """Two small jobs in a folder; both bring the marker of the simulator."""
    for name in ("one", "two"):
        (write_job(tmp_path / "jobs" / name, CONTENT) / "app/custom").mkdir()
    return tmp_path / "jobs"


def edit(job: Path, **values: object) -> None:
    path = job / "app/config/mucald.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def state(kit: Kit) -> dict[Path, tuple[bytes, int]]:
    files = (path for path in kit.folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def texts(kit: Kit, jobs: Path, **how: bool) -> list[str]:
    """Fill, writing no job, and return what is to be known."""
    written, findings = fill(kit, jobs, **how)
    assert written == []
    assert not any(finding.hinders for finding in findings)
    return [finding.text for finding in findings]


def seed(kit: Kit, name: str) -> int:
    return load_job(kit.folder / "transfer" / name)[0].seed


def test_every_shipped_job_is_there_as_configuration_alone_and_the_second_time_nothing_is_written(kit):
    names = sorted(path.parent.name for path in SHIPPED.glob("*/meta.json"))
    assert {"mucald", "ablation_no_diffusion"} < set(names)
    assert fill(kit, SHIPPED) == (names, [])
    for name in names:
        job = kit.folder / "transfer" / name
        assert load_job(job) == load_job(SHIPPED / name)
        assert not (job / "app/custom").exists()
    before = state(kit)
    assert texts(kit, SHIPPED) == []
    assert state(kit) == before


def test_a_job_that_was_edited_is_written_anew_though_it_was_submitted(kit, jobs):
    fill(kit, jobs)
    signature = kit.folder / "transfer/one/app/config/.__nvfl_sig.json"
    signature.write_text("{}")
    assert texts(kit, jobs) == []
    edit(jobs / "one", seed=8)
    assert fill(kit, jobs) == (["one"], [])
    assert (seed(kit, "one"), seed(kit, "two")) == (8, 7)
    assert not signature.exists()


def test_what_people_put_or_edited_there_stays_without_force(kit, jobs):
    shutil.copytree(jobs / "one", kit.folder / "transfer/one")
    edit(kit.folder / "transfer/one", seed=9)
    (kit.folder / "transfer/one/app/custom").rmdir()
    assert fill(kit, jobs)[0] == ["two"]
    edit(kit.folder / "transfer/two", seed=10)
    edit(jobs / "two", seed=8)
    found = texts(kit, jobs)
    assert len(found) == 2
    for name, text in zip(("one", "two"), found, strict=True):
        assert f"transfer/{name} is not {jobs / name} as it is submitted, and stays; --force" in text
    assert (seed(kit, "one"), seed(kit, "two")) == (9, 10)
    assert fill(kit, jobs, force=True) == (["one", "two"], [])
    assert (seed(kit, "one"), seed(kit, "two")) == (7, 8)
    assert texts(kit, jobs) == []


def test_force_replaces_a_link_and_leaves_what_it_points_to(kit, jobs):
    (kit.folder / "transfer/one").symlink_to(jobs / "one")
    edit(jobs / "one", description="edited")
    fill(kit, jobs, force=True)
    assert not (kit.folder / "transfer/one").is_symlink()
    assert (jobs / "one/app/custom").exists()


def test_a_check_writes_nothing_and_says_what_is_missing_or_old(kit, jobs):
    missing = texts(kit, jobs, write=False)
    assert [text.endswith("is missing; run this without --check") for text in missing] == [True, True]
    assert state(kit) == {}
    fill(kit, jobs)
    edit(jobs / "two", seed=8)
    before = state(kit)
    (old,) = texts(kit, jobs, write=False)
    assert f"transfer/two is older than {jobs / 'two'}" in old
    assert state(kit) == before


def test_a_job_that_is_wrong_is_named_and_the_others_are_written(kit, jobs):
    edit(jobs / "one", sede=8)
    names, (finding,) = fill(kit, jobs)
    assert names == ["two"]
    assert f"{jobs / 'one'} cannot be submitted: " in finding.text
    assert "mucald.json: unknown key 'sede'" in finding.text
    assert not (kit.folder / "transfer/one").exists()


def test_a_folder_of_jobs_that_was_copied_there_whole_is_named_and_results_are_not(kit, jobs):
    fill(kit, jobs)
    shutil.copytree(jobs, kit.folder / "transfer/jobs")
    shutil.copytree(jobs, kit.folder / "transfer/0b1c/job")
    (text,) = texts(kit, jobs)
    assert f"{kit.folder / 'transfer/jobs'} has a folder app/custom" in text


def test_a_folder_without_jobs_is_refused(kit, tmp_path):
    with pytest.raises(ConfigError, match="nowhere holds no job folder"):
        fill(kit, tmp_path / "nowhere")
