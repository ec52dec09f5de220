"""Whatever a reader, a header or a file system throws is one site's fault, and the others' run goes on."""

import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from image_files import write_pair
from tiny_job import CPU, PLAIN, run_job, tiny_config, write_policy

from mucald.errors import MucaldError
from mucald.federation.participant import create_site
from mucald.methods import family_of

SITES = {"north": {"task": "kvasir"}, "south": {"task": "ham10k"}}


def config(task="kvasir"):
    return tiny_config(PLAIN, min_sites=1, sites=SITES | {"north": {"task": task}})


def pictures(home: Path) -> None:
    for index in range(4):
        write_pair(home / f"images/{index}.png", home / f"masks/{index}.png", index, top=255)
    (home / "site.json").write_text(json.dumps({"task": "kvasir", "root": ".", "layout": "pairs"}))
    write_policy(home)


def volumes(home: Path, labels: object) -> None:
    """Write a site in nnU-Net's layout."""
    values = np.zeros((8, 8, 2), np.uint8)
    values[2:6, 2:6] = 1
    for index in range(4):
        for name in (f"imagesTr/{index}_0000", f"labelsTr/{index}"):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), home / f"{name}.nii")
    (home / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii"}))
    (home / "site.json").write_text(json.dumps({"task": "mosmed", "root": ".", "layout": "nnunet"}))
    write_policy(home)


def header(home: Path, offset: int, value: bytes) -> None:
    path = home / "imagesTr/1_0000.nii"
    content = bytearray(path.read_bytes())
    content[offset : offset + len(value)] = value
    path.write_bytes(content)


def link(home: Path) -> None:
    (home / "images/2.png").unlink()
    (home / "images/2.png").symlink_to("nowhere.png")


REGIONS = {"background": 0, "whole": [1, 2]}
PLAIN_LABELS = {"background": 0, "infection": 1}
FAULTS = {
    "a data type that NIfTI has not": ("mosmed", PLAIN_LABELS, lambda home: header(home, 70, b"\x01\0")),
    "a size below zero": ("mosmed", PLAIN_LABELS, lambda home: header(home, 42, b"\xfc\xff")),
    "labels that are regions": ("mosmed", REGIONS, lambda home: home.touch()),
    "a link to nothing": ("kvasir", None, link),
    "no folder for its cache": ("kvasir", None, lambda home: (home / "cache").write_text("a file")),
    "no folder for its checkpoints": ("kvasir", None, lambda home: (home / "runs").write_text("a file")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_site_that_cannot_work_is_left_out_with_its_reason_and_the_other_goes_on(name, tmp_path):
    task, labels, break_it = FAULTS[name]
    home = tmp_path / "home/north"
    volumes(home, labels) if task == "mosmed" else pictures(home)
    break_it(home)
    run = run_job(config(task), tmp_path)
    assert set(run.results["sites"]) == {"south"}
    failures = run.results["failures"]
    assert [(one["site"], one["round"]) for one in failures] == [("north", 0), ("north", 1), ("north", 2)]
    for one in failures:
        assert str(home) in one["reason"], "it names the file or folder"
        assert "internal error" not in one["reason"]
        assert "unexpected" not in one["reason"]


# A folder of checkpoints is met at the end of a round, and told by the checkpoint's own error.
@pytest.mark.parametrize("name", [name for name in FAULTS if "checkpoints" not in name])
def test_what_others_may_read_of_it_names_no_file(name, tmp_path):
    task, labels, break_it = FAULTS[name]
    volumes(tmp_path, labels) if task == "mosmed" else pictures(tmp_path)
    break_it(tmp_path)
    job = config(task)
    with pytest.raises(MucaldError) as raised:
        create_site(family_of(job.method), "north", job, tmp_path, "run", CPU)
    for hidden in (str(tmp_path), "2.png", "1_0000", "nowhere"):
        assert hidden not in raised.value.public
    assert raised.value.public not in ("DataError", "MucaldError"), "it says of which kind the fault is"


def test_a_site_is_back_as_soon_as_its_disk_has_room(tmp_path, monkeypatch):
    pictures(tmp_path / "home/north")
    fdopen, full = os.fdopen, [True]

    def refusing(*arguments, **options):
        if full.pop() if full else False:
            raise OSError(28, "No space left on device")
        return fdopen(*arguments, **options)

    # The first thing that a site writes for good is its noise secret.
    monkeypatch.setattr("mucald.data.site_file.os.fdopen", refusing)
    run = run_job(config(), tmp_path)
    (failure,) = run.results["failures"]
    assert (failure["site"], failure["round"]) == ("north", 0)
    assert failure["reason"] == "a file cannot be written (No space left on device); make room"
    assert set(run.results["sites"]) == {"north", "south"}


def test_a_defect_of_ours_in_one_site_ends_it_alone_and_its_traceback_is_kept(tmp_path, monkeypatch):
    from mucald.methods.split.site.method import SplitSite

    run_site = SplitSite.run

    def failing(self, *arguments):
        if self.name == "north":
            raise ZeroDivisionError("a defect")
        return run_site(self, *arguments)

    monkeypatch.setattr(SplitSite, "run", failing)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = run_job(config(), tmp_path)
    assert set(run.results["sites"]) == {"south"}
    assert (
        "unexpected ZeroDivisionError: a defect; please report it with"
        in (run.results["failures"][0]["reason"])
    )
    assert "in failing" in next(tmp_path.glob("mucald-error-*")).read_text()
