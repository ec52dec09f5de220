"""What the one who follows a job reads: the coordinator's own lines, out of FLARE's log of the server."""

import io
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from loopback_federation import LEAD, provision
from nvflare.fuel.utils.log_utils import JsonFormatter
from tiny_job import PLAIN, Federation, run_job, tiny_config, with_limits, write_policy

from mucald.deploy import session
from mucald.federation.progress import LOGGER
from mucald.privacy.policy import OPEN

FORMAT = "%(asctime)s - %(name)s - %(fullName)s - %(levelname)s - %(fl_ctx)s - %(message)s"


@pytest.fixture
def log():
    """Return what FLARE writes into ``log.json`` meanwhile."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    handler.setFormatter(JsonFormatter(FORMAT))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return provision(tmp_path_factory.mktemp("project"), ["north"])


@pytest.fixture
def progress(kits: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that gives the progress told by a log."""
    asked = []

    def logs(_: str, log_file_name: str) -> dict:
        asked.append(log_file_name)
        return {"logs": {} if text is None else {"server": text}}

    connected = SimpleNamespace(get_job_logs=logs, api=SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(session, "new_secure_session", lambda *_, **__: connected)
    text = None

    def read(content: str | None) -> list[str]:
        nonlocal text
        text = content
        with session.Federation(kits / LEAD) as admin:
            found = admin.progress("a job")
        assert set(asked) == {"log.json"}
        return found

    return read


def test_a_run_tells_its_name_every_site_and_round_and_who_is_left_out(log, progress, tmp_path):
    write_policy(tmp_path / "home/south", with_limits(OPEN, scores=None))
    results = run_job(tiny_config(PLAIN), tmp_path).results
    told = progress(log.getvalue())
    assert told[0].startswith(f"run {results['run_id']}; to go on with it")
    for number in (1, 2):
        lines = [line for line in told if line.startswith(f"round {number}/2")]
        assert [line.split()[2] for line in lines] == ["north", "west"]
    assert [line.split()[1] for line in told if line.startswith("test ")] == ["north", "west"]
    refused = [line for line in told if line.startswith("site 'south' is left out of round")]
    assert len(refused) == 3
    assert "refuses by its policy.json: scores may not leave" in refused[0]
    assert len(told) == 1 + 2 * 2 + 2 + 3
    assert "test results" in log.getvalue(), "which is no progress"


def test_a_run_that_goes_on_and_a_site_that_is_started_again_are_told(log, progress, tmp_path):
    Federation(tiny_config(PLAIN), tmp_path).run(1)
    federation = Federation(tiny_config(PLAIN, resume_from="latest"), tmp_path)
    federation.coordinator.open(next(federation.coordinator.tasks()))
    next(federation.coordinator.turns())
    federation.coordinator.restart("north")
    told = progress(log.getvalue())[-3:]
    run_id = federation.coordinator.run_id
    assert told[0] == f"going on with run {run_id} after 1 complete rounds"
    assert told[2] == "site 'north' was started again and does its task anew"


def test_a_log_that_is_cut_off_at_both_ends_is_read_in_between(progress):
    lines = [json.dumps({"fullName": LOGGER, "message": f"round {n}"}) for n in range(1, 5)]
    cut = "... output truncated to last 99 bytes ...\n" + "\n".join(
        [lines[0][9:], *lines[1:3], lines[3][:-9]]
    )
    assert progress(cut) == ["round 2", "round 3"]
    # A piece that happens to be JSON is no entry either.
    assert progress(f"7\n{lines[0]}\n") == ["round 1"]
    assert progress('{"message": "round 1/2 of another logger"}\n') == []


def test_a_job_without_a_log_has_told_nothing(progress):
    assert progress(None) == []
    assert progress("") == []
