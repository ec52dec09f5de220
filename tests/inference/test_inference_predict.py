"""Masks from trained models: those of the run's own test, and their geometry on images of any size."""

import csv
import os

import nibabel
import numpy as np
import pytest
import torch
from image_files import save_nifti, save_png, turned
from PIL import Image
from trained import KINDS, SITE, config_of, images_of, read_masks, write_pictures

from mucald.commands.models.predict import main
from mucald.errors import DataError
from mucald.inference.images import find_inputs, passed_over
from mucald.inference.predict import SUMMARY, Segmenter, predict_images
from mucald.methods.split.as_tested import TestReplay
from mucald.metrics import segmentation as metrics
from mucald.tasks import get_task

NOISED = ("mucald", "no denoiser", "single releases")
AREA = 0.5 * 0.25


def rows(folder):
    with (folder / SUMMARY).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def dice(masks, split, n_classes=2):
    scores = metrics.image_scores(masks, split.whole().targets, n_classes, surface=False)
    return metrics.dice_per_image([scores])


def bright(images):
    """Stand in for a model: the class is 1 where the image is bright."""
    return torch.stack([0.5 - images[:, 0], images[:, 0] - 0.5], dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_the_test_images_score_what_the_run_reported(kind, trained, tmp_path):
    run, config = trained.run(kind), config_of(kind)
    split = images_of(config)
    write_pictures(split, tmp_path / "images")
    arguments = [str(tmp_path / "images"), "--run", str(run.folder / "results"), "--site", SITE]
    home = run.folder / "home" / SITE
    assert main([*arguments, "--out", str(tmp_path / "masks"), "--as-tested", str(home)]) == 0
    reported = run.results["sites"][SITE]["dice_per_image"]
    assert dice(read_masks(tmp_path / "masks"), split) == reported
    assert len(reported) == 5


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NOISED])
def test_without_noise_the_joined_model_is_the_tests(kind, trained):
    """The tiny jobs send exact numbers, so that nothing but noise could differ."""
    split, model = images_of(config_of(kind)), trained.model(kind)
    joined = model.network()
    for images in split.whole().inputs.split(2):
        logits = joined(images)
        if model.server_weights:
            replay = TestReplay(model, trained.run(kind).folder / "home" / SITE)
            torch.testing.assert_close(logits, replay(images))
        assert logits.shape == (len(images), 2, 16, 16)


@pytest.mark.parametrize("kind", NOISED)
def test_with_noise_an_image_has_one_mask_whatever_lies_beside_it(kind, trained):
    joined, images = trained.model(kind).network(), images_of(config_of(kind)).whole().inputs
    together, alone = joined(images), torch.cat([joined(image[None]) for image in images])
    torch.testing.assert_close(together, alone)


def test_the_noise_is_the_jobs_level_at_both_splits(trained):
    model = trained.model("mucald")
    joined, seen = model.network(), {}
    joined.server.crdm1.register_forward_hook(lambda _m, inputs, _o: seen.update(first=inputs))
    joined.server.crdm2.register_forward_hook(lambda _m, inputs, _o: seen.update(second=inputs))
    images = images_of(model.config).whole().inputs[:2]
    joined(images)
    clean = joined._release.bounded(joined.front_end(images)[0])
    share = float(joined.server.schedule.alpha_bar(model.config.release.t))
    expected = share**0.5 * clean + (1 - share) ** 0.5 * joined.noise_1
    torch.testing.assert_close(seen["first"][1], expected)
    assert seen["first"][2].tolist() == [300, 300]
    middle, noised, level, _ = seen["second"]
    share = float(joined.server.schedule.alpha_bar(100))
    torch.testing.assert_close(noised, share**0.5 * middle + (1 - share) ** 0.5 * joined.noise_2)
    assert level.tolist() == [100, 100]
    assert not torch.equal(joined.noise_1, joined.noise_2)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_a_pictures_mask_is_a_png_of_its_size(ending, tmp_path):
    pixels = np.zeros((24, 40, 3), np.uint8)
    pixels[6:18, 10:30] = 255
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / f"in/a.{ending}")
    inputs = find_inputs([tmp_path / "in"], channels=False)
    assert predict_images(inputs, Segmenter(bright, 16, 4), get_task("kvasir"), tmp_path / "out") == []
    mask = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert mask.shape == (24, 40)
    # The model saw squares of 16 pixels, hence an edge may be off by one of its pixels.
    assert np.abs(mask.astype(int) - (pixels[..., 0] > 0)).sum() <= 3 * (12 + 20) * 2
    (row,) = rows(tmp_path / "out")
    assert (row["file"], row["mask"], row["slice"]) == (f"a.{ending}", "a.png", "0")
    assert int(row["polyp, pixels"]) == mask.sum()
    assert row["polyp, mm2"] == "", "a picture does not tell its pixels' size"


@pytest.mark.parametrize(
    ("pixdim", "unit", "area"),
    [([1, 1, 1], 0, None), ([1, 1, 1], 2, None), ([0, 0, 0], 0, None), ([0.5, 0.25, 3], 2, AREA)],
)
@pytest.mark.parametrize("shape", [(20, 12), (20, 12, 2)])
def test_a_header_that_never_was_filled_in_tells_no_area(shape, pixdim, unit, area, tmp_path):
    codes = {"sform_code": 0, "qform_code": 0, "xyzt_units": unit, "pixdim": [1, *pixdim, 0, 0, 0, 0]}
    volume = np.zeros(shape, np.int16)
    volume[5:15] = 900
    inputs = find_inputs([save_nifti(tmp_path / "in/a.nii", volume, **codes)], channels=False)
    assert predict_images(inputs, Segmenter(bright, 16, 4), get_task("mosmed"), tmp_path / "out") == []
    for row in rows(tmp_path / "out"):
        pixels = int(row["infection, pixels"])
        assert pixels > 0
        assert row["infection, mm2"] == ("" if area is None else f"{pixels * area:.6g}")


@pytest.mark.parametrize("shape", [(20, 12), (20, 12, 5), (20, 12, 5, 1)])
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_nifti_mask_lies_where_its_image_lies(shape, ending, tmp_path):
    volume = np.zeros(shape, np.int16)
    for number in range(shape[2] if len(shape) > 2 else 1):
        (volume[:, :, number] if len(shape) > 2 else volume)[4 : 10 + number, 2:8] = 1000
    affine = np.array([[0, -0.25, 0, 7], [0.5, 0, 0, -3], [0, 0, 3.0, 11], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(2.0, -1000)
    image.header["descrip"] = b"arterial"
    (tmp_path / "in").mkdir()
    nibabel.save(image, tmp_path / f"in/ct.{ending}")
    source = nibabel.load(tmp_path / f"in/ct.{ending}")
    inputs = find_inputs([tmp_path / "in"], channels=False)
    assert predict_images(inputs, Segmenter(bright, 64, 2), get_task("mosmed"), tmp_path / "out") == []
    mask = nibabel.load(tmp_path / f"out/ct.{ending}")
    assert mask.shape == shape
    assert np.array_equal(mask.affine, source.affine)
    for field in ("pixdim", "qform_code", "sform_code", "descrip", "xyzt_units", "srow_x"):
        assert np.array_equal(mask.header[field], source.header[field]), field
    assert mask.get_data_dtype() == np.uint8
    labels = np.asarray(mask.dataobj)
    assert set(np.unique(labels)) == {0, 1}
    assert np.abs(labels - (volume > 0)).mean() < 0.06
    table = rows(tmp_path / "out")
    slices = labels.reshape(*shape[:2], -1)
    assert [int(row["slice"]) for row in table] == list(range(slices.shape[-1]))
    for row in table:
        count = int(slices[..., int(row["slice"])].sum())
        assert int(row["infection, pixels"]) == count
        assert float(row["infection, mm2"]) == pytest.approx(AREA * count, rel=1e-5)


def test_batches_run_on_over_files(tmp_path):
    """So that with pictures and volumes alike the batches are those of the run's test."""
    sizes = []

    def predict(images):
        sizes.append(len(images))
        return bright(images)

    (tmp_path / "in").mkdir()
    for name, count in (("a", 3), ("b", 1), ("c", 5)):
        nibabel.save(nibabel.Nifti1Image(np.ones((8, 8, count)), np.eye(4)), tmp_path / f"in/{name}.nii")
    inputs = find_inputs([tmp_path / "in"], channels=False)
    predict_images(inputs, Segmenter(predict, 8, 2), get_task("mosmed"), tmp_path / "out")
    assert sizes == [2, 2, 2, 2, 1]
    assert [row["mask"] for row in rows(tmp_path / "out")] == ["a.nii"] * 3 + ["b.nii"] + ["c.nii"] * 5


def test_channels_of_one_image_are_read_together(tmp_path):
    for channel, value in enumerate((0, 255)):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / f"a_{channel:04}.png")
    (image,) = find_inputs([tmp_path], channels=True)
    assert (image.mask_name, len(image.files)) == ("a.png", 2)
    assert len(find_inputs([tmp_path], channels=False)) == 2


@pytest.mark.parametrize("number", [6, 8])
def test_the_mask_of_a_turned_picture_lies_over_it_as_it_is_shown(number, tmp_path):
    shown = np.zeros((24, 40), np.uint8)
    shown[2:10, 4:30] = 255
    stored = shown.T[::-1] if number == 6 else shown.T[:, ::-1]
    (tmp_path / "in").mkdir()
    Image.fromarray(np.ascontiguousarray(stored)).save(
        tmp_path / "in/a.jpg", quality=100, exif=turned(number)
    )
    inputs = find_inputs([tmp_path / "in"], channels=False)
    assert predict_images(inputs, Segmenter(bright, 64, 4), get_task("kvasir"), tmp_path / "out") == []
    mask = np.asarray(Image.open(tmp_path / "out/a.png"))
    assert mask.shape == shown.shape
    assert (mask != (shown > 0)).mean() < 0.05


def test_whatever_is_wrong_with_one_image_the_others_are_segmented(tmp_path):
    """Headers, encodings, links, folders and channels that are wrong in one way each."""
    folder = tmp_path / "in"
    for name in ("good", "late"):
        save_nifti(folder / f"{name}_0000.nii", np.eye(8))
        save_nifti(folder / f"{name}_0001.nii", np.ones((8, 8)))
    save_nifti(folder / "code_0000.nii", np.eye(8), datatype=1)
    save_nifti(folder / "code_0001.nii", np.eye(8))
    save_nifti(folder / "size_0000.nii", np.eye(8), dim=[2, -8, 8, 1, 1, 1, 1, 1])
    save_nifti(folder / "size_0001.nii", np.eye(8))
    save_nifti(folder / "lone_0001.nii", np.eye(8))
    save_nifti(folder / "sizes.nii", np.eye(8), pixdim=[1, 5, 5, 5, 0, 0, 0, 0], sform_code=1)
    save_png(folder / "deep.png", np.ones((8, 8, 3), np.uint16), 16, 2)
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    for number in range(2):
        Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(folder / f"rgb_{number:04}.png")
    (folder / "notes.txt").touch()
    inputs = find_inputs([folder], channels=True)
    faults = predict_images(inputs, Segmenter(bright, 8, 2), get_task("mosmed"), tmp_path / "out")
    said = {row["file"]: row["fault"] for row in rows(tmp_path / "out")}
    assert [name for name, fault in said.items() if not fault] == ["good_0000.nii", "late_0000.nii"]
    assert sorted(faults) == sorted(fault for fault in said.values() if fault)
    assert len(faults) == 9
    assert "lone_0001.nii: has the channels 0001, not 0000, 0001" in said["lone_0001.nii"]
    assert "more than one channel of 16 bits" in said["deep.png"]
    assert "is a pipe, socket or device" in said["pipe.png"]
    assert "is a folder" in said["folder.png"]
    assert "is a colour picture, but one channel" in said["rgb_0000.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.nii", "late.nii", SUMMARY]
    assert passed_over([folder, folder / "deep.png"]) == ["1 file of in/ is not read: 1 .txt"]


def test_channels_are_ordered_by_their_numbers(tmp_path):
    for channel in (0, 1):
        Image.fromarray(np.full((4, 4), 255 * channel, np.uint8)).save(tmp_path / f"a_{channel:04}.png")
    (image,) = find_inputs([tmp_path / "a_0001.png", tmp_path / "a_0000.png"], channels=True)
    assert [path.name for path in image.files] == ["a_0000.png", "a_0001.png"]


def test_a_damaged_image_is_named_and_the_others_are_segmented(trained, tmp_path, capsys):
    write_pictures(images_of(config_of("no noise")), tmp_path / "images")
    (tmp_path / "images/01.png").write_bytes(b"no picture")
    arguments = ["--run", str(trained.run("no noise").folder / "results"), "--site", SITE]
    assert main([str(tmp_path / "images"), *arguments, "--out", str(tmp_path / "masks")]) == 1
    assert "01.png" in capsys.readouterr().err
    assert len(list((tmp_path / "masks").glob("*.png"))) == 4
    faults = {row["file"]: row["fault"] for row in rows(tmp_path / "masks")}
    assert "cannot be read" in faults.pop("01.png")
    assert set(faults.values()) == {""}


def test_masks_never_replace_images(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    inputs = find_inputs([tmp_path], channels=False)
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(DataError, match="another folder"):
        predict_images(inputs, Segmenter(bright, 8, 2), get_task("kvasir"), tmp_path)
    assert (tmp_path / "a.png").read_bytes() == before


def test_areas_are_in_square_millimetres_whatever_the_headers_unit(tmp_path):
    for unit, scale in (("micron", 1e-3), ("meter", 1e3), ("mm", 1.0), ("unknown", 1.0)):
        values = np.stack([np.zeros((8, 8)), np.ones((8, 8))], axis=2)[..., ::-1]
        image = nibabel.Nifti1Image(values, np.diag([0.5, 0.25, 3, 1]))
        image.header.set_xyzt_units(unit)
        nibabel.save(image, tmp_path / f"{unit}.nii")
        (found,) = find_inputs([tmp_path / f"{unit}.nii"], channels=False)
        predict_images([found], Segmenter(bright, 8, 2), get_task("mosmed"), tmp_path / unit)
        assert float(rows(tmp_path / unit)[0]["infection, mm2"]) == pytest.approx(64 * AREA * scale**2)


def test_whatever_one_image_or_its_mask_throws_ends_no_batch(trained, tmp_path, capsys):
    write_pictures(images_of(config_of("no noise")), tmp_path / "images")
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 2), np.uint8), np.eye(4)), tmp_path / "images/00a.nii")
    damaged = bytearray((tmp_path / "images/00a.nii").read_bytes())
    damaged[70:72] = b"\x01\0"
    (tmp_path / "images/00a.nii").write_bytes(damaged)
    (tmp_path / "images/00b.png").symlink_to("nowhere.png")
    (tmp_path / "masks/03.png").mkdir(parents=True)
    arguments = [str(tmp_path / "images"), "--run", str(trained.run("no noise").folder / "results")]
    arguments += ["--site", SITE, "--out", str(tmp_path / "masks")]
    assert main(arguments) == 1
    assert (
        f"error: {tmp_path / 'masks/03.png'} exists; give another place, or --force"
        in capsys.readouterr().err
    )
    assert main([*arguments, "--force"]) == 1
    table = rows(tmp_path / "masks")
    faults = {row["file"]: row["fault"] for row in table if row["fault"]}
    assert set(faults) == {"00a.nii", "00b.png", "03.png"}
    assert "00a.nii: cannot be read" in faults["00a.nii"]
    assert "00b.png: " in faults["00b.png"]
    assert "does not exist" in faults["00b.png"]
    assert "03.png: cannot be read or written (Is a directory)" in faults["03.png"]
    assert sorted(row["mask"] for row in table if row["mask"]) == ["00.png", "01.png", "02.png", "04.png"]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 3
