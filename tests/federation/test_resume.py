import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from stopped import RESUMED, run_until
from tiny_job import Federation, Run, equal_models, run_job, tiny_config

from mucald.errors import CheckpointError
from mucald.federation.coordinator import FORMAT
from mucald.state import checkpoint


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """The folder of a run that was stopped after its two rounds, before its test."""
    folder = tmp_path_factory.mktemp("original")
    run_until(tiny_config(), folder, 1, "after")
    return folder


@pytest.fixture
def stopped(original, tmp_path) -> tuple[Path, str]:
    """A copy of it, and the run's name."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    (run,) = (tmp_path / "home/server/runs").iterdir()
    return tmp_path, run.name


@pytest.fixture
def assert_as_if_never_stopped(full) -> Callable[[Run, str], None]:
    def check(resumed: Run, name: str) -> None:
        assert resumed.results["run_id"] == name
        expected = full.run.numbers()
        expected["config"] = expected["config"] | {
            key: resumed.results["config"][key] for key in ("description", "runtime")
        }
        assert resumed.numbers() == expected
        assert equal_models(resumed, full.run)

    return check


# Before round 2 is closed, the sites have its checkpoints but the server has not; 2 is the test.
@pytest.mark.parametrize(
    ("round_number", "when"), [(0, "before"), (0, "after"), (1, "before"), (2, "before")]
)
def test_a_stopped_run_ends_with_the_numbers_of_one_never_stopped(
    round_number, when, tmp_path, assert_as_if_never_stopped
):
    name = run_until(tiny_config(), tmp_path, round_number, when)
    assert_as_if_never_stopped(run_job(tiny_config(RESUMED), tmp_path), name)


def test_a_run_is_resumed_by_its_name_and_more_than_once(tmp_path, assert_as_if_never_stopped):
    name = run_until(tiny_config(), tmp_path, 0, "after")
    # A later run, which 'latest' would take.
    Federation(tiny_config(), tmp_path)
    by_name = tiny_config(RESUMED, resume_from=name)
    run_until(by_name, tmp_path, 1, "after")
    assert_as_if_never_stopped(run_job(by_name, tmp_path), name)


def test_the_latest_run_is_this_jobs(stopped, assert_as_if_never_stopped):
    """A job whose name begins alike is another job."""
    folder, name = stopped
    Federation(tiny_config(name="tiny-zebra"), folder)
    assert_as_if_never_stopped(run_job(tiny_config(RESUMED), folder), name)


def test_the_time_of_all_sessions_counts(stopped, full):
    timing = run_job(tiny_config(RESUMED), stopped[0]).results["timing"]
    # The test alone takes no longer than the whole run; the two rounds before it are in.
    assert timing["wall_s"] > timing["site_s"] + timing["server_s"] > 0
    assert timing["wall_s"] > full.run.results["timing"]["wall_s"] / 10


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 8}, "another configuration: seed changed"),
        (
            {"losses": {"proximal": 0.5}, "optimiser": {"causal": 0.1}},
            "another configuration: losses, optimiser changed",
        ),
        ({"training": {"rounds": 9}}, "another configuration: training changed"),
    ],
)
def test_a_changed_configuration_is_refused_and_what_changed_is_named(change, named, stopped):
    with pytest.raises(CheckpointError, match=f"{named}$"):
        run_job(tiny_config(RESUMED, change), stopped[0])


def test_other_sites_are_refused(stopped):
    folder, name = stopped
    with pytest.raises(CheckpointError, match=f"run {name} had the sites north, south, west"):
        run_job(tiny_config(RESUMED), folder, sites=["north", "south"])


def test_a_missing_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="there is no earlier run of 'tiny'"):
        run_job(tiny_config(resume_from="latest"), tmp_path)
    with pytest.raises(CheckpointError, match="tiny-20200101-000000 holds no complete round"):
        run_job(tiny_config(resume_from="tiny-20200101-000000"), tmp_path)


@pytest.mark.parametrize("earlier", [{}, {"format": FORMAT - 1}])
def test_checkpoints_of_an_earlier_version_are_refused_as_such(earlier, stopped):
    folder, name = stopped
    path = folder / "home/server/runs" / name / "round-002/server.safetensors"
    tensors, state = checkpoint.load_checkpoint(path)
    del state["format"]
    checkpoint.save_checkpoint(path, tensors, state | earlier)
    with pytest.raises(
        CheckpointError, match=f"run {name} was begun by another version .* begin the run anew"
    ):
        run_job(tiny_config(RESUMED), folder)


@pytest.mark.parametrize("file", ["server", "south"])
def test_a_damaged_checkpoint_of_the_server_is_refused(file, stopped):
    folder, name = stopped
    path = folder / "home/server/runs" / name / "round-002" / f"{file}.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{file}.safetensors is damaged"):
        run_job(tiny_config(RESUMED), folder)


def test_a_half_written_round_is_not_gone_on_from(stopped, assert_as_if_never_stopped):
    """The server's own file is written last: without it the round before is the last complete one."""
    folder, name = stopped
    (folder / "home/server/runs" / name / "round-002/server.safetensors.sha256").unlink()
    assert_as_if_never_stopped(run_job(tiny_config(RESUMED), folder), name)


def test_without_the_latest_round_at_the_server_the_run_goes_on_from_the_one_before(
    stopped, assert_as_if_never_stopped
):
    folder, name = stopped
    shutil.rmtree(folder / "home/server/runs" / name / "round-002")
    assert_as_if_never_stopped(run_job(tiny_config(RESUMED), folder), name)


def test_a_site_whose_checkpoint_is_damaged_is_left_out(stopped):
    folder, name = stopped
    path = folder / "home/south/runs" / name / "round-002/site.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"oops")
    run = run_job(tiny_config(RESUMED), folder)
    assert [(failure["site"], failure["round"]) for failure in run.results["failures"]] == [("south", 2)]
    assert "is damaged" in run.results["failures"][0]["reason"]
    assert run.results["sites"]["south"]["test"] is None


def fill_disk(monkeypatch: pytest.MonkeyPatch, ending: str) -> list[Path]:
    """Let the disk be full once a file with this ending is written; return what was refused."""
    refused: list[Path] = []
    write = checkpoint.write_atomically

    def writing(path: Path, data: bytes) -> None:
        if refused or str(path).endswith(ending):
            refused.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_atomically", writing)
    return refused


@pytest.mark.parametrize("file", ["server.safetensors", "south.safetensors", "north.safetensors.sha256"])
def test_a_full_disk_at_the_server_stops_the_run_with_its_reason_and_loses_no_complete_round(
    file, tmp_path, monkeypatch, assert_as_if_never_stopped
):
    with monkeypatch.context() as patch:
        fill_disk(patch, f"round-002/{file}")
        with pytest.raises(CheckpointError, match=r"could not write checkpoint .*No space left on device"):
            run_job(tiny_config(), tmp_path)
    (run,) = (tmp_path / "home/server/runs").iterdir()
    assert checkpoint.CheckpointStore(run).rounds("server") == [0, 1]
    assert_as_if_never_stopped(run_job(tiny_config(RESUMED), tmp_path), run.name)


def test_a_full_disk_at_a_site_leaves_that_site_out_and_names_no_path(tmp_path, monkeypatch):
    write, full = checkpoint.write_atomically, "home/south/runs"

    def writing(path: Path, data: bytes) -> None:
        if full in str(path) and "round-002" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_atomically", writing)
    federation = Federation(tiny_config(training={"rounds": 3}), tmp_path)
    federation.run(1)
    task = federation.open_next()
    with pytest.raises(CheckpointError) as error:
        federation.work("south", task)
    assert error.value.public == "could not write a checkpoint: No space left on device"
    federation.coordinator.fail("south", error.value.public)
    for name in ("north", "west"):
        federation.receive(name, federation.work(name, task))
    federation.coordinator.close(task)
    monkeypatch.undo()
    federation.run()
    present = ["south" in entry["sites"] for entry in federation.coordinator._history.rounds]
    assert present == [True, False, True]


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda _: b"", lambda data: data + b"x"])
def test_a_truncated_or_longer_checkpoint_of_the_server_is_refused(damage, stopped):
    folder, name = stopped
    path = folder / "home/server/runs" / name / "round-002/server.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"server.safetensors is damaged: its SHA-256 differs"):
        run_job(tiny_config(RESUMED), folder)
