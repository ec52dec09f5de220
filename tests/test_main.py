import json
import os
import runpy
import shutil
import subprocess
import sys

import pytest
from tiny_job import PLAIN, REPOSITORY, tiny_content, write_job

import mucald.__main__
from mucald.__main__ import main
from mucald.errors import ConfigError
from mucald.home import HOME_VARIABLE
from mucald.methods.jobs import load_job


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    return write_job(tmp_path / "job", tiny_content(PLAIN))


def results(workspace) -> dict:
    return json.loads((workspace / "server/results.json").read_text())


def test_the_command_runs_a_job_and_prints_the_table(job, tmp_path):
    command = [sys.executable, "-m", "mucald", job, "-w", tmp_path / "workspace", "-t", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "round 2/2 south" in done.stdout
    assert "server adds" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert set(results(tmp_path / "workspace")["sites"]) == {"north", "south", "west"}
    assert sorted(path.name for path in (tmp_path / "workspace.mucald").iterdir()) == [
        "north",
        "server",
        "south",
        "west",
    ]


def test_the_options_choose_seed_sites_and_the_run_to_resume(job, tmp_path):
    arguments = [str(job), "-w", str(tmp_path / "w"), "-t", "1", "--seed", "11", "-c", "north,south"]
    assert main(arguments) == 0
    first = results(tmp_path / "w")
    assert first["seed"] == first["config"]["seed"] == 11
    assert set(first["sites"]) == {"north", "south"}
    assert main([*arguments, "--resume-from", "latest"]) == 0
    again = results(tmp_path / "w")
    assert again["run_id"] == first["run_id"]
    assert again["sites"] == first["sites"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainig": {}}, "unknown key 'trainig'; did you mean 'training'?"),
        ({"network": {"backbone": "unett"}}, "unknown backbone 'unett'; did you mean 'unet'?"),
        ({"aggregation": {"rule": "eqal"}}, "unknown aggregation rule 'eqal'; did you mean 'equal'?"),
        ({"min_sites": 9}, "3 sites take part, but min_sites is 9"),
    ],
)
def test_a_broken_job_ends_with_its_error_and_status_1(change, message, tmp_path, capsys):
    job = write_job(tmp_path / "job", tiny_content(change))
    assert main([str(job), "-w", str(tmp_path / "w")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_a_missing_job_ends_with_its_error_and_status_1(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere"), "-w", str(tmp_path / "w")]) == 1
    assert f"error: {tmp_path / 'nowhere'} is no job folder: it does not exist" in capsys.readouterr().err


def test_a_class_that_is_gone_is_named_before_flare_looks_for_it(tmp_path):
    job = shutil.copytree(REPOSITORY / "jobs/mucald", tmp_path / "job")
    load_job(job)
    path = job / "app/config/config_fed_server.json"
    path.write_text(path.read_text().replace("FederationController", "GoneController"))
    with pytest.raises(ConfigError, match=r"config_fed_server.json: this version has no 'mucald.*GoneCont"):
        load_job(job)


def test_who_names_a_part_of_a_job_is_told_the_jobs_folder(job, tmp_path, capsys):
    (tmp_path / "file").touch()
    for path, said in (
        (job / "meta.json", f"it is a file; give {job}"),
        (job / "app/config/mucald.json", f"it is a file; give {job}"),
        (job / "app/config", f"it has no meta.json; give {job}"),
        (tmp_path / "file", "it is a file"),
        (tmp_path, "it has no meta.json"),
        (tmp_path / "jop", "it does not exist; did you mean 'job'?"),
    ):
        assert main([str(path), "-w", str(tmp_path / "w")]) == 1
        assert capsys.readouterr().err == f"error: {path} is no job folder: {said}\n"


def test_the_module_exits_with_the_status(tmp_path, monkeypatch, capsys):
    job = write_job(tmp_path / "job", tiny_content(training={"rounds": 0}))
    monkeypatch.setattr(sys, "argv", ["mucald", str(job), "-w", str(tmp_path / "w")])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(mucald.__main__.__file__, run_name="__main__")
    assert stop.value.code == 1
    assert "'training': rounds must be at least 1" in capsys.readouterr().err
