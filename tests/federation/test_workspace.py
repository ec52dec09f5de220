"""Workspaces of runs in one process, and runs that are stopped from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_job import PLAIN, tiny_content, write_job, write_policy

from mucald.__main__ import main
from mucald.errors import WorkspaceError
from mucald.federation.workspace import held
from mucald.home import HOME_VARIABLE


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    return write_job(tmp_path / "job", tiny_content(PLAIN))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder) - {".lock"}}


def test_results_of_an_earlier_run_are_deleted_only_if_that_is_said(job, tmp_path, capsys):
    arguments = [str(job), "-w", str(tmp_path / "w"), "-t", "1"]
    assert main([*arguments, "--seed", "8"]) == 0
    before = contents(tmp_path / "w")
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'w'} holds results of an earlier run; --keep moves them to {tmp_path / 'w.1'}, "
        "--force deletes them; or give another folder\n"
    )
    assert contents(tmp_path / "w") == before
    with pytest.raises(SystemExit):
        main([*arguments, "--keep", "--force"])
    assert main([*arguments, "--force"]) == 0
    assert json.loads((tmp_path / "w/server/results.json").read_text())["seed"] == 7
    assert not (tmp_path / "w.1").exists()


def test_a_second_run_leaves_nothing_of_the_first(job, tmp_path):
    workspace = tmp_path / "w"
    assert main([str(job), "-w", str(workspace), "-t", "1"]) == 0
    (workspace / "notes.txt").write_text("the user's own")
    (workspace / "south/notes.txt").write_text("the user's own")
    again = [str(job), "-w", str(workspace), "-t", "1", "-c", "north,west", "--seed", "8", "--force"]
    assert main(again) == 0
    assert len(list((workspace / "server/tb_events").iterdir())) == 1
    assert sorted(path.name for path in workspace.iterdir()) == [
        ".lock",
        ".participants",
        "north",
        "notes.txt",
        "server",
        "south",
        "west",
    ]
    assert files(workspace / "south") == {"notes.txt"}
    assert json.loads((workspace / "server/results.json").read_text())["seed"] == 8


def test_results_are_kept_where_the_user_says_so(job, tmp_path, caplog):
    caplog.set_level("INFO")
    for seed in ("7", "8", "9"):
        assert main([str(job), "-w", str(tmp_path / "w"), "-t", "1", "--seed", seed, "--keep"]) == 0
    found = {
        name: json.loads((tmp_path / name / "server/results.json").read_text())["seed"]
        for name in ("w", "w.1", "w.2")
    }
    assert found == {"w": 9, "w.1": 7, "w.2": 8}
    assert f"results of an earlier run are now in {tmp_path / 'w.2'}" in caplog.text
    assert (tmp_path / "w.1/south/models/south.safetensors").exists()


def test_what_no_run_has_left_is_never_deleted(job, tmp_path, capsys):
    """A folder of the user's own may be called as one of a run is."""
    for name in ("server/models/net.py", "other/models/net.py", "south/results.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("the user's own")
    assert main([str(job), "-w", str(tmp_path), "-t", "1", "--force"]) == 1
    said = f"error: {tmp_path / 'server/models'} is of no run that this workspace knows; give another folder"
    assert said in capsys.readouterr().err
    assert main([str(job), "-w", str(tmp_path), "-t", "1", "--keep"]) == 0
    kept = tmp_path.with_name(f"{tmp_path.name}.1")
    assert files(kept) == {"server/models/net.py", "south/results.json"}
    assert (tmp_path / "other/models/net.py").read_text() == "the user's own"
    assert main([str(job), "-w", str(tmp_path), "-t", "1", "--force"]) == 0
    assert (tmp_path / "other/models/net.py").exists()


def test_a_folder_that_was_there_stays_when_a_run_fails(job, tmp_path):
    (tmp_path / "w").mkdir()
    assert main([str(job), "-w", str(tmp_path / "w"), "--resume-from", "none"]) == 1
    assert list((tmp_path / "w").iterdir()) == []
    assert main([str(job), "-w", str(tmp_path / "new"), "--resume-from", "none"]) == 1
    assert not (tmp_path / "new").exists()


def test_nothing_stays_of_a_run_that_every_site_refuses(job, tmp_path, monkeypatch, capsys):
    """So it needs no --force once the policies allow it."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    sites = tiny_content(PLAIN)["sites"]
    for site in sites:
        write_policy(tmp_path / "home" / site, discloses={"scores": {}})
    arguments = [str(job), "-w", str(tmp_path / "w"), "-t", "1"]
    assert main(arguments) == 1
    assert "left out" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()
    for site in sites:
        write_policy(tmp_path / "home" / site)
    assert main(arguments) == 0


def test_a_run_says_first_what_its_sites_train_on(job, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    (tmp_path / "home/north").mkdir(parents=True)
    (tmp_path / "home/north/site.json.txt").touch()
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    assert main([str(job), "-w", str(tmp_path / "w w"), "-t", "1"]) == 0
    phantoms = "trains on phantoms of kvasir (4 to train, 2 to validate, 2 to test): there is no"
    first, *_ = caplog.messages
    assert first == f"site 'north' {phantoms} {tmp_path}/home/north/site.json (there is site.json.txt)"
    assert [message.split()[1] for message in caplog.messages[:3]] == ["'north'", "'south'", "'west'"]


def test_a_run_that_is_resumed_deletes_nothing(job, tmp_path):
    arguments = [str(job), "-w", str(tmp_path / "w"), "-t", "1"]
    assert main(arguments) == 0
    before = files(tmp_path / "w")
    assert main([*arguments, "--resume-from", "latest"]) == 0
    assert before <= files(tmp_path / "w")


def test_a_workspace_in_use_is_refused_and_free_again_afterwards(job, tmp_path, capsys):
    with held(tmp_path / "w"):
        assert main([str(job), "-w", str(tmp_path / "w")]) == 1
        assert f"{tmp_path / 'w'} is in use by process {os.getpid()}; wait for it" in capsys.readouterr().err
        assert not (tmp_path / "w/server").exists()
    assert main([str(job), "-w", str(tmp_path / "w"), "-t", "1"]) == 0


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("startup", "a start-up kit"),
        ("server/startup", "start-up kits"),
        ("server/local", "FLARE's simulator"),
        ("server/simulate_job", "FLARE's simulator"),
    ],
)
def test_a_folder_of_flare_is_left_as_it_is(job, tmp_path, name, owner, capsys):
    """Neither force nor keeping makes room in what a process of FLARE may be using."""
    (tmp_path / "w" / name).mkdir(parents=True)
    for option in ([], ["--force"], ["--keep"]):
        assert main([str(job), "-w", str(tmp_path / "w"), *option]) == 1
        assert f"error: {tmp_path / 'w'} belongs to {owner}, " in capsys.readouterr().err
    assert files(tmp_path / "w") == set()


def test_a_workspace_that_cannot_be_a_folder_is_named(job, tmp_path, capsys):
    (tmp_path / "w").write_text("a file")
    assert main([str(job), "-w", str(tmp_path / "w")]) == 1
    assert f"{tmp_path / 'w'} cannot be written (File exists)" in capsys.readouterr().err
    with pytest.raises(WorkspaceError), held(tmp_path / "w/inside"):
        pass


@pytest.mark.parametrize("number", ["0", "-1", "2.5", "two"])
def test_a_wrong_number_of_sites_at_once_is_one_line_and_status_2(number, job, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(job), "-t", number])
    assert stop.value.code == 2
    said = (
        f"argument -t/--threads: must be a whole number of at least 1, not '{number}' (--help tells the use)"
    )
    assert capsys.readouterr().err == f"error: {said}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_ends_at_once_and_goes_on_where_it_was(number, tmp_path):
    training = {"rounds": 200, "local_epochs": 1, "batch_size": 2}
    job = write_job(tmp_path / "job", tiny_content(PLAIN, training=training))
    command = [sys.executable, "-m", "mucald", job, "-w", tmp_path / "w", "-t", "2"]
    environment = {name: value for name, value in os.environ.items() if name != HOME_VARIABLE}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if "round 2/200" in line:
            break
    process.send_signal(number)
    begun = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - begun < 5
    assert process.returncode == 128 + number
    assert "Traceback" not in "".join(said) + output
    (last,) = output.strip().splitlines()[-1:]
    run = sorted((tmp_path / "w.mucald/server/runs").iterdir())[-1].name
    assert last == f"stopped; to go on, give the same command with --resume-from {run}"
    rounds = sorted(path.name for path in (tmp_path / "w.mucald/server/runs" / run).glob("round-*"))
    assert rounds[-1] >= "round-001"
