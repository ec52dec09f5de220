"""The submission tool, as far as it needs no federation."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import load_tool
from loopback_federation import LEAD, provision
from nvflare.apis.fl_exception import FLCommunicationError

from mucald.deploy import session
from mucald.deploy.session import LOST, Federation, SubmissionError, Unreachable

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return provision(tmp_path_factory.mktemp("project"), ["north"])


@pytest.fixture(scope="module")
def tool():
    return load_tool("submit")


def test_the_run_to_go_on_with_is_the_last_one_that_the_job_named(tool):
    begun = ["job 1: RUNNING", "run tiny-20261121-101549; to go on with it", "round 1/2 north  loss 0.7"]
    assert tool.run_name(begun) == "tiny-20261121-101549"
    assert tool.run_name([*begun, "going on with run other-1 after 2 complete rounds"]) == "other-1"
    assert tool.run_name(["job 1: RUNNING", "site 'north' is left out"]) is None


def test_only_the_first_errors_of_a_log_are_shown(tool, tmp_path):
    log = tmp_path / "log.txt"
    assert tool.errors(log) == []
    log.write_text("".join(f"12:00 - X - {level} - {n}\n" for n in range(9) for level in ("INFO", "ERROR")))
    shown = [f"12:00 - X - ERROR - {n}" for n in range(tool.SHOWN_ERRORS)]
    assert tool.errors(log) == [f"from {log}:", *shown]


def test_a_job_with_code_of_its_own_is_refused_before_anyone_is_asked(tool, kits, tmp_path, capsys):
    job = shutil.copytree(REPOSITORY / "jobs/mucald", tmp_path / "mucald")
    (job / "app/custom/network.py").touch()
    for more in ([], ["--code"]):
        assert tool.main([str(job), "--kit", str(kits / LEAD), *more]) == 1
        assert "app/custom/network.py: code of a job's own is not submitted" in capsys.readouterr().err


def test_a_job_with_code_that_sites_refuse_is_told_how_to_be_submitted(
    tool, kits, tmp_path, monkeypatch, capsys
):
    told = "north: not authorized: BYOC not permitted"
    refusing = SimpleNamespace(
        wait_for_sites=lambda *_: [],
        submit=lambda _: "1",
        follow=lambda *_: "FINISHED:FAILED_TO_RUN",
        download=lambda *_: tmp_path,
        refusals=lambda _: [told],
        progress=lambda _: [],
    )
    monkeypatch.setattr(tool, "Federation", lambda _: contextlib.nullcontext(refusing))
    assert tool.main([str(REPOSITORY / "jobs/mucald"), "--kit", str(kits / LEAD), "--code"]) == 1
    assert capsys.readouterr().out.splitlines()[1:] == [
        told,
        "BYOC not permitted: these sites accept no code with a job; submit it without --code",
        "job 1 ended as FINISHED:FAILED_TO_RUN, without results",
    ]


def test_a_kit_that_is_no_admin_s_is_refused(kits):
    with pytest.raises(SubmissionError, match="start-up kit of a site; jobs need an admin's"):
        Federation(kits / "north")


def test_a_server_that_listens_before_it_can_answer_is_waited_for(kits, monkeypatch):
    answers = iter([FLCommunicationError("failed to challenge server: process_exception: no callback")] * 2)
    connected = SimpleNamespace(
        get_connected_client_list=lambda: [SimpleNamespace(name="north")],
        api=SimpleNamespace(close=lambda: None),
    )

    def log_in(*_: object, **__: object) -> object:
        for error in answers:
            raise error
        return connected

    monkeypatch.setattr(session, "new_secure_session", log_in)
    monkeypatch.setattr(session, "POLL_S", 0)
    with Federation(kits / LEAD) as admin:
        with pytest.raises(Unreachable, match="no callback"):
            admin.wait_for_server(timeout_s=-1)
        assert admin.wait_for_sites(["north"], timeout_s=60) == []
        assert next(answers, None) is None


@pytest.mark.parametrize(
    ("scheduled", "expected"),
    [({"last_schedule_time": 5.0}, LOST), ({"last_schedule_time": 15.0}, "DISPATCHED"), ({}, "DISPATCHED")],
    ids=["before the server's start", "after it", "not yet noted"],
)
def test_a_job_is_lost_if_it_was_scheduled_before_the_server_s_start(scheduled, expected, kits, monkeypatch):
    connected = SimpleNamespace(
        get_job_meta=lambda _: {"status": "DISPATCHED"} | scheduled,
        get_system_info=lambda: SimpleNamespace(server_info=SimpleNamespace(start_time=10.0)),
        api=SimpleNamespace(close=lambda: None),
    )
    monkeypatch.setattr(session, "new_secure_session", lambda *_, **__: connected)
    with Federation(kits / LEAD) as admin:
        assert admin.status("a job") == expected


@pytest.mark.slow
def test_a_server_that_is_not_there_is_named(kits):
    job = REPOSITORY / "jobs/mucald"
    command = [
        sys.executable,
        REPOSITORY / "tools/submit.py",
        job,
        "--kit",
        kits / LEAD,
        "--wait-for-sites",
        "0",
        "--no-wait",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "error: the server does not answer" in done.stderr
