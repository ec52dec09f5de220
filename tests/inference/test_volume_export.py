"""The exported bundle of a model of volumes: MONAI's own ``run`` gives the masks of ``mucald predict``."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from image_files import save_nifti
from monai.bundle import ConfigWorkflow
from test_volume_predict import GEOMETRIES, predictor_of
from volume_files import SHAPE, affine, scene
from volume_model import model_of

from mucald.inference.export import export
from mucald.inference.images import find_inputs
from mucald.inference.volumes import predict_volumes


def run_bundle(folder: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=str(folder / "bundle/configs/inference.json"),
        meta_file=str(folder / "bundle/configs/metadata.json"),
        workflow_type="inference",
        logging_file=False,
        bundle_root=str(folder / "bundle"),
        dataset_dir=str(folder / "images"),
        output_dir=str(folder / "masks"),
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    workflow.run()


@pytest.mark.parametrize("name", ["RAS", "LPS", "oblique", "axes in another order"])
def test_masks_are_those_of_the_command(name: str, tmp_path: Path) -> None:
    model = model_of("liver")
    differences = export(model, tmp_path / "bundle")
    assert max(differences.values()) < 1e-4
    for index in range(2):
        path = tmp_path / f"images/case_{index}_0000.nii.gz"
        save_nifti(path, scene(index, 3)[0], GEOMETRIES[name], sform_code=1)
    run_bundle(tmp_path)
    predict_volumes(find_inputs([tmp_path / "images"], True), predictor_of(model), tmp_path / "out")
    for index in range(2):
        own, other = (nibabel.load(tmp_path / f"{kind}/case_{index}.nii.gz") for kind in ("out", "masks"))
        assert np.allclose(own.affine, other.affine, atol=1e-4)
        assert np.array_equal(np.asanyarray(own.dataobj), np.asanyarray(other.dataobj))
        assert np.array_equal(np.asanyarray(other.dataobj), scene(index, 3)[1])


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (2.0, 2.0, 8.0)])
def test_a_resampled_volume_has_the_same_mask(spacing: tuple[float, ...], tmp_path: Path) -> None:
    model = model_of("liver", spacing, (16, 16, 8))
    export(model, tmp_path / "bundle")
    labels = np.zeros((30, 24, 20), np.uint8)
    labels[3:18, 4:16, 3:15] = 1
    save_nifti(tmp_path / "images/case_0000.nii.gz", labels * np.float32(100), affine(), sform_code=1)
    run_bundle(tmp_path)
    predict_volumes(find_inputs([tmp_path / "images"], True), predictor_of(model), tmp_path / "out")
    own, other = (
        np.asanyarray(nibabel.load(tmp_path / f"{kind}/case.nii.gz").dataobj) for kind in ("out", "masks")
    )
    assert np.array_equal(own, other)
    assert own.any()


def test_four_channels(tmp_path: Path) -> None:
    model = model_of("brain")
    export(model, tmp_path / "bundle")
    for channel in range(4):
        path = tmp_path / f"images/case_{channel:04}.nii.gz"
        save_nifti(path, scene(0, 4)[0], affine(), sform_code=1)
    run_bundle(tmp_path)
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["case.nii.gz"]
    assert np.array_equal(np.asanyarray(nibabel.load(tmp_path / "masks/case.nii.gz").dataobj), scene(0, 4)[1])


def test_classes_are_those_of_the_command(tmp_path: Path) -> None:
    model = model_of("heart_pathology", size=(8, 16, 8))
    export(model, tmp_path / "bundle")
    for index in range(2):
        image = np.full(SHAPE, 2.0 * index + 0.3, np.float32)
        save_nifti(tmp_path / f"images/case_{index}.nii.gz", image, affine(), sform_code=1)
    run_bundle(tmp_path)
    predict_volumes(find_inputs([tmp_path / "images"], True), predictor_of(model), tmp_path / "out")
    own = list(csv.DictReader((tmp_path / "out/summary.csv").open(encoding="utf-8")))
    table = list(csv.DictReader((tmp_path / "masks/classes.csv").open(encoding="utf-8")))
    assert [row["case"] for row in table] == ["case_0", "case_1"]
    found = [float(row[name]) for row in table for name in model.task.classes]
    assert found == pytest.approx([float(row["probability"]) for row in own], abs=1e-5)


def test_metadata_tell_patches_channels_and_classes(tmp_path: Path) -> None:
    export(model_of("brain"), tmp_path)
    content: dict[str, Any] = json.loads((tmp_path / "configs/metadata.json").read_text())
    image = content["network_data_format"]["inputs"]["image"]
    assert (image["num_channels"], image["spatial_shape"], image["modality"]) == (4, [8, 8, 8], "MR4")
    assert content["network_data_format"]["outputs"]["pred"]["channel_def"]["3"] == "enhancing tumour"
    assert torch.jit.load(tmp_path / "models/model.ts")(torch.zeros(1, 4, 8, 8, 8)).shape == (1, 4, 8, 8, 8)
