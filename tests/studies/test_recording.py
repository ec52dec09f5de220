import json
import shutil

import pytest
import torch
from recording import record_run
from tiny_job import tiny_config

from mucald.errors import RecordingError
from mucald.methods.split.wire.messages import Field, Phase, decode
from mucald.wire.recorder import FOLDER
from mucald_studies.recording import read_recording


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    return record_run(tiny_config(runtime={"record": True}), tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def folder(heard, tmp_path):
    """A copy of the run's server folder that a test may damage."""
    shutil.copytree(heard.run.server, tmp_path / "server")
    return tmp_path / "server"


def test_a_recording_is_read_as_it_was_heard(heard):
    recording = read_recording(heard.run.folder)
    assert recording.run_id == heard.run.results["run_id"]
    assert recording.config == tiny_config(runtime={"record": True})
    assert recording.sites == ("north", "south", "west")
    for site in recording.sites:
        exchanges = list(recording.exchanges(site))
        expected = [(request, reply) for name, request, reply in heard.messages if name == site]
        assert len(exchanges) == len(expected)
        for exchange, (request, reply) in zip(exchanges, expected, strict=True):
            for message, data in ((exchange.request, request), (exchange.reply, reply)):
                original = decode(data)
                assert (message.phase, message.round, message.step) == (
                    original.phase,
                    original.round,
                    original.step,
                )
                assert all(torch.equal(message.fields[f], original.fields[f]) for f in original.fields)


def test_a_phase_can_be_read_alone(heard):
    recording = read_recording(heard.run.server)
    exchanges = list(recording.exchanges("north", Phase.TRAIN_BACKWARD))
    assert len(exchanges) == 4
    assert all(Field.FEATURE_GRADIENT in exchange.request.fields for exchange in exchanges)


def test_a_run_that_recorded_nothing_is_told_what_to_set(full):
    with pytest.raises(RecordingError, match=r"the run recorded nothing; set runtime.record to true"):
        read_recording(full.run.folder)


def test_a_folder_that_holds_no_run_is_not_called_one(tmp_path):
    with pytest.raises(RecordingError, match=r"nope is no folder; give the workspace of a run"):
        read_recording(tmp_path / "nope")
    with pytest.raises(RecordingError, match=r"holds no run; give the workspace of one"):
        read_recording(tmp_path)


def test_several_recordings_below_a_folder_are_listed(heard, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(heard.run.server, tmp_path / name)
    with pytest.raises(RecordingError, match=r"several recordings; name one: .*one.*two"):
        read_recording(tmp_path)


def test_results_of_another_run_are_noticed(folder):
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(results | {"run_id": "another"}))
    with pytest.raises(RecordingError, match=r"is of run tiny-.*is of run another"):
        read_recording(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "schema 99 of package version .*install that version"),
        ({"protocol": 99}, "protocol 99 of package version"),
        ({"digest": "0"}, "does not fit its digest"),
        ({"config": {"name": "x"}}, "which this one cannot read: missing key"),
    ],
)
def test_a_recording_of_another_version_is_refused(change, message, folder):
    path = folder / FOLDER / "header.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RecordingError, match=message):
        read_recording(folder)


def test_a_recording_that_is_cut_off_names_the_exchange(folder):
    path = folder / FOLDER / "north.messages"
    path.write_bytes(path.read_bytes()[:-3])
    recording = read_recording(folder)
    with pytest.raises(RecordingError, match=r"exchange 13 \(TEST, round 2, step 0\) is cut off.*resume it"):
        list(recording.exchanges("north"))


@pytest.mark.parametrize(("place", "message"), [(0, "other lengths than the index"), (60, "is damaged: ")])
def test_a_damaged_byte_is_noticed(place, message, folder):
    path = folder / FOLDER / "north.messages"
    data = bytearray(path.read_bytes())
    data[place] ^= 255
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=message):
        list(read_recording(folder).exchanges("north"))


def test_a_site_that_sent_nothing_is_named(heard):
    with pytest.raises(RecordingError, match="no message of site 'stranger', only of north, south, west"):
        list(read_recording(heard.run.folder).exchanges("stranger"))
