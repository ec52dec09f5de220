"""A run on volumes leaves models that the commands predict with and export, as the run has tested them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import save_nifti
from test_volume_export import run_bundle
from tiny_job import run_job
from torch import Tensor
from volume_files import affine

from mucald.commands.models import export, predict
from mucald.data.loading import load_site_data
from mucald.inference.model_files import TrainedModel, find_model_files, load_model
from mucald.inference.volumes import VolumePredictor, plan_for
from mucald.methods.jobs import load_base, parse_config
from mucald.metrics import segmentation

SITES = {"liver": {"task": "liver"}, "brain": {"task": "brain"}, "ill": {"task": "heart_pathology"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = load_base("weights/fedcmt").to_dict()
    content |= {"name": "tiny", "sites": SITES}
    content["data"]["phantoms"] = {"train": 4, "validation": 2, "test": 3}
    content["data"]["volumes"] |= {"patch_size": [16, 16, 16], "phantom_size": [24, 16, 16]}
    content["training"] |= {"rounds": 2, "local_epochs": 1}
    content["network"] |= {"features": [4, 8, 8], "adaptor_channels": 4}
    content["algorithm"]["args"]["optimiser"]["rounds"] = 2
    return run_job(parse_config(content), tmp_path_factory.mktemp("run")).folder / "results"


def model_of(run: Path, site: str) -> TrainedModel:
    return load_model(*find_model_files(run, site))


def scores_of(run: Path, site: str) -> dict[str, float]:
    results = json.loads(next(run.rglob("results.json")).read_text())
    return results["sites"][site]["test"]


@pytest.mark.parametrize("site", ["liver", "brain"])
def test_masks_are_those_of_the_run_s_test(run: Path, site: str) -> None:
    model = model_of(run, site)
    data = load_site_data(site, model.task.name, model.config.data, model.config.seed, None).test
    plan = plan_for(model.config.data, model.task)
    predictor = VolumePredictor(model.network(), model.task, plan, torch.device("cpu"))
    scores = []
    for row in range(len(data)):
        batch = data.batch([row])
        logits: Tensor = predictor.logits(batch.inputs[0].numpy())[None]
        scores.append(segmentation.image_scores(logits, batch.targets, model.task.n_classes, surface=False))
    assert segmentation.mean_dice(scores) == pytest.approx(scores_of(run, site)["dice"], abs=1e-6)


def test_the_commands_predict_and_export_alike(run: Path, tmp_path: Path) -> None:
    for channel in range(4):
        values = np.random.default_rng(channel).normal(size=(20, 18, 16)).astype(np.float32)
        save_nifti(tmp_path / f"images/head_{channel:04}.nii.gz", values, affine(), sform_code=1)
    where = ["--run", str(run), "--site", "brain", "--out"]
    images = str(tmp_path / "images")
    assert predict.main([images, *where, str(tmp_path / "out")]) == 0
    assert predict.main([images, *where, str(tmp_path / "fast"), "--unmirrored"]) == 0
    assert export.main([*where, str(tmp_path / "bundle")]) == 0
    run_bundle(tmp_path)
    masks = {folder: voxels(tmp_path / folder / "head.nii.gz") for folder in ("out", "fast", "masks")}
    assert np.array_equal(masks["out"], masks["masks"])
    assert masks["out"].shape == masks["fast"].shape == (20, 18, 16)


def voxels(path: Path) -> np.ndarray:
    import nibabel

    return np.asanyarray(nibabel.load(path).dataobj)


def test_a_class_is_predicted_of_a_whole_volume(run: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 11, 16)).astype(np.float32)
    save_nifti(tmp_path / "images/heart.nii.gz", values, affine(), sform_code=1)
    where = ["--run", str(run), "--site", "ill", "--out"]
    assert predict.main([str(tmp_path / "images"), *where, str(tmp_path / "out")]) == 0
    assert export.main([*where, str(tmp_path / "bundle")]) == 0
    run_bundle(tmp_path)
    rows = list(csv.DictReader((tmp_path / "out/summary.csv").open(encoding="utf-8")))
    table = list(csv.DictReader((tmp_path / "masks/classes.csv").open(encoding="utf-8")))
    own = [float(row["probability"]) for row in rows]
    assert sum(own) == pytest.approx(1, abs=1e-4)
    assert [float(table[0][row["class"]]) for row in rows] == pytest.approx(own, abs=1e-5)
