"""Masks of volumes lie where their images do, whatever the header; classes come with probabilities."""

import csv
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from image_files import save_nifti
from monai.inferers.utils import sliding_window_inference
from numpy.typing import NDArray
from torch import nn
from volume_files import SHAPE, affine, scene
from volume_model import Levels, model_of

from mucald.data.volumes.reading import read_volume
from mucald.federation.method import TrainedModel
from mucald.inference.images import find_inputs
from mucald.inference.volumes import Mirrored, VolumePredictor, plan_for, predict_volumes

CPU = torch.device("cpu")


def predictor_of(model: TrainedModel, mirrored: bool = True) -> VolumePredictor:
    network = model.network()
    plan = plan_for(model.config.data, model.task)
    return VolumePredictor(Mirrored(network) if mirrored else network, model.task, plan, CPU)


def predicted(model: TrainedModel, folder: Path, out: Path) -> list[dict[str, str]]:
    assert predict_volumes(find_inputs([folder], True), predictor_of(model), out) == []
    return list(csv.DictReader((out / "summary.csv").open(encoding="utf-8")))


def rotated(degrees: float, spacing: tuple[float, ...]) -> NDArray[Any]:
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = [-30.0, 12.5, 7.0]
    return turn @ affine(spacing)


GEOMETRIES = {
    "RAS": affine(),
    "LPS": affine(axes=(-1, -1, 1)),
    "axes in another order": affine()[[2, 0, 1, 3]],
    "oblique": rotated(20, (2.0, 2.0, 2.0)),
    "anisotropic": affine((2.0, 2.0, 2.0)) @ np.diag([1, 1, 3.0, 1]),
    "oblique, anisotropic and backwards": rotated(160, (1.5, 1.5, 6.0)),
}


@pytest.mark.parametrize("place", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_a_mask_has_the_geometry_of_its_image(place: NDArray[Any], kind: str, tmp_path: Path) -> None:
    image, labels = scene(3, 3)
    path = tmp_path / "images/case_0000.nii.gz"
    save_nifti(path, image.astype(kind), place, sform_code=1, qform_code=0, descrip=b"scanner 7", cal_max=300)
    spacing = tuple(float(size) for size in read_volume((path,), model_of("liver").task).spacing)
    predicted(model_of("liver", spacing), tmp_path / "images", tmp_path / "out")
    mask, source = nibabel.load(tmp_path / "out/case.nii.gz"), nibabel.load(path)
    assert np.array_equal(mask.affine, source.affine)
    assert mask.shape == source.shape
    assert mask.get_data_dtype() == ("int16" if kind == "int16" else "uint8")
    kept = (
        "pixdim",
        "sform_code",
        "qform_code",
        "srow_x",
        "srow_y",
        "srow_z",
        "descrip",
        "xyzt_units",
        "dim",
    )
    assert all(np.array_equal(mask.header[name], source.header[name]) for name in kept)
    assert mask.header["cal_max"] == 0
    assert np.array_equal(np.asanyarray(mask.dataobj), labels)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.5, 4.0), (3.0, 3.0, 3.0)])
def test_a_plan_of_another_spacing_gives_nearly_the_same_mask(
    spacing: tuple[float, ...], tmp_path: Path
) -> None:
    labels = np.zeros((24, 20, 16), np.uint8)
    labels[2:14, 4:16, 3:12] = 1
    save_nifti(tmp_path / "images/case_0000.nii.gz", labels * np.float32(100), affine(), sform_code=1)
    predicted(model_of("liver", spacing), tmp_path / "images", tmp_path / "out")
    mask = np.asanyarray(nibabel.load(tmp_path / "out/case.nii.gz").dataobj)
    assert mask.shape == labels.shape
    assert 2 * np.sum((mask == 1) & (labels == 1)) / (np.sum(mask == 1) + np.sum(labels == 1)) > 0.9


def test_the_summary_has_a_row_per_case_and_class(tmp_path: Path) -> None:
    for index in range(2):
        image = scene(index, 4)[0]
        for channel in range(4):
            path = tmp_path / f"images/case_{index}_{channel:04}.nii"
            save_nifti(path, image, affine((2.0, 2.0, 2.5)), sform_code=1)
    rows = predicted(model_of("brain", (2.0, 2.0, 2.5)), tmp_path / "images", tmp_path / "out")
    assert [(row["mask"], row["class"]) for row in rows] == [
        (f"case_{index}.nii", name) for index in range(2) for name in model_of("brain").task.classes[1:]
    ]
    assert rows[0]["voxels"] == "36"
    assert float(rows[0]["ml"]) == pytest.approx(36 * 10 / 1000)


def test_classes_come_with_probabilities(tmp_path: Path) -> None:
    for index, level in enumerate((0.0, 2.0, 4.0)):
        save_nifti(tmp_path / f"images/case_{index}.nii.gz", np.full(SHAPE, level, np.float32), affine())
    model = model_of("heart_pathology", size=SHAPE)
    rows = predicted(model, tmp_path / "images", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["summary.csv"]
    classes = model.task.classes
    assert [row["class"] for row in rows] == [*classes] * 3
    assert [row["predicted"] for row in rows[:: len(classes)]] == [classes[0], classes[2], classes[4]]
    for case in range(3):
        own = rows[case * len(classes) : (case + 1) * len(classes)]
        assert sum(float(row["probability"]) for row in own) == pytest.approx(1, abs=1e-4)
        assert max(own, key=lambda row: float(row["probability"]))["class"] == own[0]["predicted"]


def test_a_volume_that_cannot_be_read_has_a_row_that_says_why(tmp_path: Path) -> None:
    save_nifti(tmp_path / "images/good.nii.gz", scene(0, 3)[0], affine(), sform_code=1)
    save_nifti(tmp_path / "images/bad.nii.gz", np.full(SHAPE, np.nan, np.float32), affine(), sform_code=1)
    (tmp_path / "images/torn.nii.gz").write_bytes(b"\x1f\x8b\x08 torn")
    save_nifti(tmp_path / "images/two_0000.nii.gz", scene(0, 3)[0], affine(), sform_code=1)
    save_nifti(tmp_path / "images/two_0001.nii.gz", scene(0, 3)[0], affine(), sform_code=1)
    faults = predict_volumes(
        find_inputs([tmp_path / "images"], True), predictor_of(model_of("liver")), tmp_path / "out"
    )
    assert len(faults) == 3
    rows = list(csv.DictReader((tmp_path / "out/summary.csv").open(encoding="utf-8")))
    said = {row["file"]: row["fault"] for row in rows if row["fault"]}
    assert "960 of its voxels are NaN" in said["bad.nii.gz"]
    assert "cannot be read" in said["torn.nii.gz"]
    assert "has 2 file(s), but task liver takes 1" in said["two_0000.nii.gz"]
    assert (tmp_path / "out/good.nii.gz").exists()


class Sided(nn.Module):
    """Tells one class from the voxel before along the first axis, so that mirroring changes what it says."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        before = torch.roll(inputs, 1, dims=2)
        return torch.cat([inputs, before - inputs], dim=1)


def test_mirroring_averages_all_eight_ways() -> None:
    inputs = torch.rand(1, 1, 4, 4, 4)
    assert torch.allclose(Mirrored(Levels(3, False))(inputs), Levels(3, False)(inputs), atol=1e-6)
    network, total = Sided(), torch.zeros(1, 2, 4, 4, 4)
    for way in ((), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)):
        total += network(inputs.flip(way)).flip(way)
    assert torch.allclose(Mirrored(network)(inputs), total / 8, atol=1e-6)
    assert not torch.allclose(Mirrored(network)(inputs), network(inputs), atol=1e-2)


def test_the_window_slides_as_monai_s_does() -> None:
    torch.manual_seed(0)
    network = nn.Conv3d(1, 3, 3, padding=1).eval()
    model = model_of("liver", size=(8, 8, 8))
    image = torch.rand(1, 20, 13, 6)
    predictor = VolumePredictor(network, model.task, plan_for(model.config.data, model.task), CPU)
    with torch.no_grad():
        direct = sliding_window_inference(image[None], (8, 8, 8), 1, network, 0.5, "gaussian")
    assert torch.equal(predictor.logits(image.numpy()), direct[0])
