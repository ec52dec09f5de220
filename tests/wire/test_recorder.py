"""What the recorder keeps, against what a listener on the wire has heard."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from recording import private_chunks, record_run
from stopped import run_until
from tiny_job import equal_models, request, run_job, tiny_config

from mucald.errors import RecordingError
from mucald.methods.split.wire.messages import Phase, decode
from mucald.wire.recorder import FOLDER, LENGTHS, Recorder, open_recorder

RECORDED = {"runtime": {"record": True}}


def written(folder, site):
    """Return the exchanges of a site's file, read without the reader's help."""
    data, place, found = (folder / f"{site}.messages").read_bytes(), 0, []
    while place < len(data):
        sizes = LENGTHS.unpack_from(data, place)
        place += LENGTHS.size
        found.append((data[place : place + sizes[0]], data[place + sizes[0] : place + sum(sizes)]))
        place += sum(sizes)
    return found


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """A recorded run of the tiny job and all that a listener heard."""
    return record_run(tiny_config(RECORDED), tmp_path_factory.mktemp("recorded"))


def test_every_message_that_crossed_is_kept_to_the_byte_and_no_other(heard):
    folder = heard.run.server / FOLDER
    for site in heard.run.results["sites"]:
        expected = [(request, reply) for name, request, reply in heard.messages if name == site]
        assert written(folder, site) == expected
        index = [json.loads(line) for line in (folder / f"{site}.index").read_text().splitlines()]
        decoded = [decode(request) for request, _ in expected]
        assert [(e["phase"], e["round"], e["step"]) for e in index] == [
            (message.phase.name, message.round, message.step) for message in decoded
        ]


def test_recording_changes_no_number(heard, full):
    numbers, expected = heard.run.numbers(), full.run.numbers()
    assert numbers["config"].pop("runtime") != expected["config"].pop("runtime")
    assert numbers == expected
    assert equal_models(heard.run, full.run)


def test_a_job_that_does_not_ask_for_it_records_nothing(full, tmp_path):
    assert not list(full.run.folder.rglob(FOLDER))
    assert open_recorder(tiny_config(), "run", tmp_path) is None


def record(folder, site="north", steps=range(3), run_id="run"):
    recorder = Recorder(folder, tiny_config(RECORDED), run_id)
    for step in steps:
        data = request(Phase.TRAIN_FORWARD, step)
        recorder.append(site, decode(data), data, b"reply")


def test_a_resumed_recording_goes_on_without_repeating(tmp_path):
    record(tmp_path, steps=range(3))
    record(tmp_path, steps=range(1, 5))
    assert written(tmp_path, "north") == [(request(Phase.TRAIN_FORWARD, n), b"reply") for n in range(5)]


def test_a_step_repeated_with_other_bytes_is_kept_too(tmp_path):
    recorder = Recorder(tmp_path, tiny_config(RECORDED), "run")
    data = request(Phase.TRAIN_FORWARD, 0)
    for reply in (b"one", b"two"):
        recorder.append("north", decode(data), data, reply)
    assert [reply for _, reply in written(tmp_path, "north")] == [b"one", b"two"]


@pytest.mark.parametrize("lost", [1, 40, 2000])
def test_what_a_stop_has_cut_off_is_written_anew(lost, tmp_path):
    record(tmp_path, steps=range(4))
    path = tmp_path / "north.messages"
    path.write_bytes(path.read_bytes()[:-lost])
    record(tmp_path, steps=range(4))
    assert written(tmp_path, "north") == [(request(Phase.TRAIN_FORWARD, n), b"reply") for n in range(4)]


def test_an_index_line_that_was_cut_off_does_no_harm(tmp_path):
    record(tmp_path, steps=range(2))
    index = tmp_path / "north.index"
    index.write_text(index.read_text()[:-5])
    record(tmp_path, steps=range(2))
    assert len(written(tmp_path, "north")) == len(index.read_text().splitlines()) == 2


def test_a_new_run_in_the_same_folder_replaces_the_recording(tmp_path):
    record(tmp_path, site="north")
    record(tmp_path, site="south", run_id="another")
    assert not (tmp_path / "north.messages").exists()
    assert json.loads((tmp_path / "header.json").read_text())["run_id"] == "another"


def test_sites_at_once_do_not_disturb_each_other(tmp_path):
    recorder = Recorder(tmp_path, tiny_config(RECORDED), "run")

    def work(site):
        for step in range(20):
            data = request(Phase.TRAIN_FORWARD, step)
            recorder.append(site, decode(data), data, site.encode())

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, ("north", "south", "west")))
    for site in ("north", "south", "west"):
        assert written(tmp_path, site) == [
            (request(Phase.TRAIN_FORWARD, n), site.encode()) for n in range(20)
        ]


def test_a_stopped_and_resumed_run_records_what_an_unbroken_one_does(heard, tmp_path):
    config = tiny_config(RECORDED)
    run_until(config, tmp_path, 1, "before")
    run_job(replace(config, resume_from="latest"), tmp_path)
    for site in config.sites:
        resumed = written(tmp_path / "results/server" / FOLDER, site)
        assert resumed == written(heard.run.server / FOLDER, site)


def test_a_disk_that_refuses_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="could not write the recording"):
        open_recorder(tiny_config(RECORDED), "run", tmp_path / "file")


def test_what_is_recorded_holds_no_image_and_no_label(heard):
    everything = b"".join(path.read_bytes() for path in (heard.run.server / FOLDER).glob("*.messages"))
    chunks = private_chunks(heard)
    assert len(chunks) > 100
    assert not any(chunk in everything for chunk in chunks)
