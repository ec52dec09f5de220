"""Which files are taken for which image, and what is said of those that may not be meant so."""

import csv
import os

import numpy as np
import pytest
from commands import load_tool
from image_files import save_nifti
from PIL import Image
from trained import SITE

from mucald.inference.images import find_inputs
from mucald.inference.predict import SUMMARY
from mucald.inference.remarks import remarks
from mucald.tasks import get_task


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)
    return path


def said(paths, channels=False, task="kvasir"):
    return remarks(paths, find_inputs(paths, channels), channels, get_task(task))


@pytest.fixture
def predict(trained, tmp_path, capsys):
    """Run the command with a small model; return its status and what it says."""
    model = ["--run", str(trained.run("no noise").folder / "results"), "--site", SITE]
    main = load_tool("predict").main

    def run(*arguments, model=model):
        try:
            status = main([*map(str, arguments), *model, "--out", str(tmp_path / "out")])
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


def table(tmp_path):
    with (tmp_path / "out" / SUMMARY).open(encoding="utf-8", newline="") as stream:
        return [(row["file"], row["mask"], row["fault"]) for row in csv.DictReader(stream)]


def test_of_two_images_with_one_mask_the_later_has_a_fault_and_the_others_are_segmented(predict, tmp_path):
    for name in ("a/x.png", "a/x.bmp", "a/y.png", "b/x.png"):
        picture(tmp_path / name)
    status, output, errors = predict(tmp_path / "a", tmp_path / "b")
    assert status == 1
    assert f"2 masks and {SUMMARY}" in output
    assert "most viewers show it black" in output
    taken = f"{tmp_path / 'a/x.bmp'} has the same mask x.png; rename one, or segment it by itself"
    faults = [f"{tmp_path / other}: {taken}" for other in ("a/x.png", "b/x.png")]
    failed = [("x.png", "", fault) for fault in faults]
    assert sorted(table(tmp_path)) == sorted([*failed, ("x.bmp", "x.png", ""), ("y.png", "y.png", "")])
    assert errors == "".join(f"error: {fault}\n" for fault in faults)


def test_a_picture_and_a_volume_of_one_name_have_masks_of_their_own(tmp_path):
    picture(tmp_path / "x.png")
    save_nifti(tmp_path / "x.nii", np.eye(4))
    found = find_inputs([tmp_path], channels=False)
    assert [(image.mask_name, image.fault) for image in found] == [("x.nii", ""), ("x.png", "")]


def test_a_channel_that_comes_twice_or_beside_a_whole_image_is_a_fault(tmp_path):
    for name in ("x_0000.png", "x_0000.bmp", "x_0001.png", "x.png", "z_0000.png", "z_0001.png"):
        picture(tmp_path / name)
    found = find_inputs([tmp_path], channels=True)
    assert {image.files[0].name: bool(image.fault) for image in found} == {
        "x.png": False,
        "x_0000.bmp": True,
        "x_0000.png": True,
        "x_0001.png": True,
        "z_0000.png": False,
    }


def test_a_file_that_is_given_twice_is_segmented_once_and_that_is_said(predict, tmp_path, monkeypatch):
    path = picture(tmp_path / "in/x.png")
    (tmp_path / "in/link.png").symlink_to("x.png")
    monkeypatch.chdir(tmp_path)
    status, output, errors = predict(path, "in", "in/../in/x.png")
    assert (status, errors) == (0, "")
    assert output.splitlines()[0] == "2 files are given again; each is segmented once"
    assert [row[1] for row in table(tmp_path)] == ["x.png", "link.png"]
    assert said([tmp_path / "in"]) == []


def test_channels_beyond_the_third_are_said(tmp_path):
    for channel in range(5):
        for name in "ab":
            picture(tmp_path / f"{name}_{channel:04}.png")
    dropped = "2 images have more than three channels, of which the first three are read"
    assert said([tmp_path], channels=True) == [dropped]
    alone = f"{tmp_path / 'a_0000.png'} and a_0001.png are segmented each by itself; if they are channels of"
    assert said([tmp_path])[0].startswith(alone)
    for path in tmp_path.glob("*_000[1234].png"):
        path.unlink()
    assert said([tmp_path]) == [], "a single channel is an image"


def test_files_of_another_kind_than_the_models_task_are_said(predict, tmp_path):
    picture(tmp_path / "in/x.png")
    save_nifti(tmp_path / "in/y.nii", np.eye(4))
    of_volumes = said([tmp_path / "in"], task="mosmed")
    assert of_volumes == [
        f"1 of 2 images are pictures, such as {tmp_path / 'in/x.png'}, but the task MosMed COVID-19 CT "
        "is one of NIfTI volumes: the model may not know what it sees"
    ]
    status, output, _ = predict(tmp_path / "in")
    assert status == 0
    assert f"1 of 2 images are NIfTI volumes, such as {tmp_path / 'in/y.nii'}, but the task" in output


@pytest.mark.parametrize(
    ("model", "status", "fault"),
    [
        ([], 2, "give either --run with --site, or --model"),
        (["--run", "nowhere", "--site", SITE], 1, "nowhere is no folder"),
        (["--run", ".", "--site", "*"], 1, ".: no model of site '*'"),
        (["--model", "nothing.safetensors"], 1, "nothing.safetensors"),
        (["--run", "nowhere", "--site", SITE, "--server-model", "x"], 2, "--server-model goes with --model"),
    ],
)
def test_the_model_is_judged_before_the_images(model, status, fault, predict):
    found, _, errors = predict("no such images", model=model)
    assert (found, errors.count("\n")) == (status, 1)
    assert fault in errors


def test_masks_into_the_images_folder_are_refused_without_the_hint_at_force(predict, tmp_path):
    picture(tmp_path / "out/x.png")
    before = (tmp_path / "out/x.png").read_bytes()
    for more in ([], ["--force"]):
        status, _, errors = predict(tmp_path / "out", *more)
        assert status == 1
        assert errors.endswith("write the masks into another folder\n")
    assert (tmp_path / "out/x.png").read_bytes() == before


def test_a_home_that_is_not_there_is_not_taken_for_one_of_phantoms(predict, tmp_path):
    picture(tmp_path / "in/x.png")
    status, _, errors = predict(tmp_path / "in", "--as-tested", tmp_path / "nowhere")
    assert (status, errors) == (1, f"error: --as-tested {tmp_path / 'nowhere'}: no such folder\n")


def test_a_name_that_is_no_text_is_written_as_its_bytes(predict, tmp_path):
    picture(tmp_path / "in/x.png").rename(os.fsdecode(os.fsencode(tmp_path / "in") + b"/K\xf6ln.png"))
    picture(tmp_path / "in/Köln.png")
    assert predict(tmp_path / "in")[0] == 0
    assert sorted(table(tmp_path)) == [("K\\xf6ln.png", "K\\xf6ln.png", ""), ("Köln.png", "Köln.png", "")]


def test_voxels_of_a_strange_size_are_said(tmp_path):
    """Numbers in mm under the unit of a metre make areas a million times too large."""
    affine, volume = np.diag([0.8, 0.7, 5, 1]), np.zeros((4, 5, 2), np.int16)
    paths = [save_nifti(tmp_path / f"{unit}.nii", volume, affine, xyzt_units=unit) for unit in (0, 1, 2)]
    (tmp_path / "bad.nii").write_bytes(b"none")
    (words,) = said([*paths, tmp_path / "bad.nii"], task="mosmed")
    assert f"1 of 4 images have voxels of a strange size, such as {paths[1]} (800 x 700 x 5e+03 mm)" in words
    assert said(paths[::2], task="mosmed") == []
