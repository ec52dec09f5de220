"""What is submitted of a job folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mucald.deploy.folder_job import FolderJob
from mucald.deploy.submission import export_job, exported
from mucald.errors import ConfigError, WorkspaceError
from mucald.methods.jobs import load_job

REPOSITORY = Path(__file__).parents[2]
JOBS = sorted(path.parent for path in REPOSITORY.glob("jobs/*/meta.json"))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_every_job_is_submitted_as_configuration_alone(job, tmp_path):
    out = export_job(job, tmp_path / "out")
    kept = {name for name in files(job) if not name.startswith("app/custom/")}
    assert files(out) == kept
    assert load_job(out) == load_job(job)


def test_a_bundle_holds_the_package_that_runs_the_job(tmp_path):
    out = export_job(JOBS[0], tmp_path / "out", code=True)
    program = "import mucald.flare.executor as e, mucald.flare.controller as c; print(e.__file__, c.__file__)"
    assert not [name for name in files(out) if name.endswith(".pyc")]
    custom = out / "app/custom"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(custom)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(Path(name).is_relative_to(custom) for name in done.stdout.split())


def test_changes_go_into_the_copy_alone():
    job = REPOSITORY / "jobs/mucald"
    before = (job / "app/config/mucald.json").read_bytes()
    with exported(job, resume_from="latest", seed=3) as out:
        assert out.name == "mucald"
        config = load_job(out)[0]
        assert (config.resume_from, config.seed) == ("latest", 3)
    assert not out.exists()
    assert (job / "app/config/mucald.json").read_bytes() == before


def test_an_unknown_change_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="sede"):
        export_job(JOBS[0], tmp_path / "out", sede=3)


def test_links_are_followed_because_flare_refuses_them(tmp_path):
    job = tmp_path / "job"
    (job / "app/config").mkdir(parents=True)
    for path in (REPOSITORY / "jobs/mucald/app/config").iterdir():
        (job / "app/config" / path.name).symlink_to(path)
    (job / "meta.json").symlink_to(REPOSITORY / "jobs/mucald/meta.json")
    out = export_job(job, tmp_path / "out")
    assert not [path for path in out.rglob("*") if path.is_symlink()]


def test_what_an_earlier_submission_left_in_a_job_s_folder_stays_there(tmp_path):
    job = shutil.copytree(REPOSITORY / "jobs/mucald", tmp_path / "mucald")
    for folder in ("app/config", "app"):
        (job / folder / ".__nvfl_sig.json").write_text("{}")
    assert files(export_job(job, tmp_path / "out")) == files(export_job(JOBS[0], tmp_path / "other"))


def test_a_folder_that_exists_is_left_alone(tmp_path):
    with pytest.raises(WorkspaceError, match="exists"):
        export_job(JOBS[0], tmp_path)


def test_flare_s_job_api_exports_the_same_folder(tmp_path):
    job = FolderJob(REPOSITORY / "jobs/mucald")
    for _ in range(2):
        job.export_job(str(tmp_path))
    assert job.name == "mucald"
    assert files(tmp_path / "mucald") == files(export_job(REPOSITORY / "jobs/mucald", tmp_path / "out"))


def test_the_tool_writes_what_the_console_submits(tmp_path):
    command = [sys.executable, REPOSITORY / "tools/export_job.py", REPOSITORY / "jobs/mucald"]
    done = subprocess.run(
        [*command, "--out", tmp_path / "mucald", "--resume-from", "latest"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "mucald/app/config/mucald.json").read_text())
    assert content["resume_from"] == "latest"
    assert not (tmp_path / "mucald/app/custom").exists()
