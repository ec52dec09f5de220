"""``tools/simulate.py``: what it refuses before FLARE starts, and what it makes of what FLARE leaves."""

from pathlib import Path

import pytest
from commands import load_tool
from tiny_job import PLAIN, tiny_content, write_job

from mucald.home import HOME_VARIABLE

RESULTS = "tiny/server/simulate_job/results.json"


@pytest.fixture
def started(monkeypatch):
    """Stand in for FLARE's simulator; return the workspaces in which it was started."""
    workspaces: list[Path] = []
    monkeypatch.setattr(
        "nvflare.recipe.sim_env.SimEnv.deploy", lambda self, _: workspaces.append(Path(self.workspace_root))
    )
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    return workspaces


@pytest.fixture
def simulate(tmp_path, capsys):
    """Run the command on a small job; return its status and what it said on standard output and error."""

    def run(*arguments: object, job: str = "job", **changes: object) -> tuple[int, str, str]:
        if not (tmp_path / job).exists():
            write_job(tmp_path / job, tiny_content(PLAIN, **changes))
        status = load_tool("simulate").main([str(tmp_path / job), *map(str, arguments)])
        return status, *capsys.readouterr()

    return run


def test_a_space_in_the_workspace_is_told_before_flare_starts(simulate, started, tmp_path):
    status, _, errors = simulate("-w", tmp_path / "my ws")
    assert status == 1
    assert errors.startswith(
        f"error: {tmp_path / 'my ws/tiny'} has a space in it, at which FLARE's simulator"
    )
    assert not started


def test_a_space_in_the_jobs_path_does_no_harm(simulate, started, tmp_path):
    simulate("-w", tmp_path / "ws", job="my job")
    assert started == [tmp_path / "ws"]


def test_a_simulation_without_results_is_a_failure(simulate, started, tmp_path):
    status, output, errors = simulate("-w", tmp_path / "ws")
    assert started
    assert status == 1
    log = tmp_path / "ws/tiny/server/simulate_job/log.txt"
    assert errors == f"error: the simulator has ended without results; {log} tells why\n"
    first, second, third = output.splitlines()[:3]
    assert first.startswith("site 'north' trains on phantoms of kvasir (4 to train")
    assert str(tmp_path / "ws/tiny.mucald/north/site.json") in first
    assert "'south'" in second
    assert "'west'" in third


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        (("-c", "north,nobody"), {}, "site 'nobody' has no task"),
        (("-c", ""), {}, "a site cannot be named ''"),
        ((), {"min_sites": 9}, "3 sites take part, but min_sites is 9"),
    ],
)
def test_a_wrong_job_is_told_before_flare_starts(simulate, started, tmp_path, arguments, changes, said):
    status, _, errors = simulate("-w", tmp_path / "ws", *arguments, **changes)
    assert (status, started) == (1, [])
    assert errors.startswith(f"error: {said}")


def test_flare_empties_nothing_but_its_own_workspace(simulate, started, tmp_path):
    own = tmp_path / "ws/tiny/notes.txt"
    own.parent.mkdir(parents=True)
    own.write_text("the user's own")
    status, _, errors = simulate("-w", tmp_path / "ws")
    assert (status, started) == (1, [])
    assert "is no workspace of FLARE's simulator, which would delete all in it" in errors
    assert "now " + str(tmp_path / "ws/tiny.1") in simulate("-w", tmp_path / "ws", "--keep")[1]
    assert (tmp_path / "ws/tiny.1/notes.txt").read_text() == "the user's own"
    assert len(started) == 1


@pytest.fixture
def earlier(tmp_path):
    """What an earlier simulation has left."""
    (tmp_path / "ws/tiny/server/local").mkdir(parents=True)
    (tmp_path / "ws" / RESULTS).parent.mkdir(parents=True)
    (tmp_path / "ws" / RESULTS).write_text("{}")


@pytest.mark.usefixtures("earlier")
def test_a_workspace_of_an_earlier_simulation_is_emptied_only_if_that_is_said(simulate, started, tmp_path):
    status, _, errors = simulate("-w", tmp_path / "ws")
    assert (status, started) == (1, [])
    assert errors == (
        f"error: {tmp_path / 'ws/tiny'} holds results of an earlier run; --keep moves them to "
        f"{tmp_path / 'ws/tiny.1'}, --force deletes them; or give another folder\n"
    )
    assert simulate("-w", tmp_path / "ws", "--force")[0] == 0
    assert len(started) == 1


@pytest.mark.usefixtures("earlier")
def test_a_simulation_that_is_resumed_needs_no_flag(simulate, started, tmp_path):
    assert simulate("-w", tmp_path / "ws", resume_from="latest")[0] == 0
    assert len(started) == 1


def test_an_empty_folder_is_a_workspace(simulate, started, tmp_path):
    (tmp_path / "ws/tiny").mkdir(parents=True)
    assert "has ended without results" in simulate("-w", tmp_path / "ws")[2]
    assert len(started) == 1


def test_what_is_no_workspace_of_the_simulator_is_not_emptied_even_with_force(simulate, started, tmp_path):
    (tmp_path / "ws/tiny/own").mkdir(parents=True)
    status, _, errors = simulate("-w", tmp_path / "ws", "--force")
    assert (status, started) == (1, [])
    assert "is no workspace of FLARE's simulator" in errors
