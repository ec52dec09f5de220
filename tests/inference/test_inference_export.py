"""The exported files: the same function as the joined model, and a bundle that runs by itself."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from image_files import save_png, turned
from monai.bundle import ConfigWorkflow
from PIL import Image
from tiny_job import REPOSITORY, run_job, tiny_config
from trained import KINDS, SITE, config_of, images_of, write_pictures

from mucald.errors import ModelError
from mucald.inference.export import check_export, export
from mucald.inference.images import find_inputs
from mucald.inference.model_files import find_model_files, load_model
from mucald.inference.predict import Segmenter, predict_images

BACKBONES = {
    "unet3plus": {"backbone": "unet3plus"},
    "swin_unet": {"backbone": "swin_unet", "features": [32, 64, 128]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_job_is_exported(kind, trained, tmp_path):
    model = trained.model(kind)
    assert export(model, tmp_path).keys() == {"torchscript", "bundle"}
    images = images_of(config_of(kind)).whole().inputs
    script = torch.jit.load(tmp_path / "models/model.ts")
    torch.testing.assert_close(script(images), model.network()(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_is_exported(backbone, tmp_path):
    change = {"network": BACKBONES[backbone], "data": {"image_size": 64}, "training": {"rounds": 1}}
    results = run_job(tiny_config(change), tmp_path / "run").folder / "results"
    differences = export(load_model(*find_model_files(results, SITE)), tmp_path / "bundle")
    assert max(differences.values()) < 1e-4


def test_an_export_of_other_weights_is_refused(trained, tmp_path):
    export(trained.model("no noise"), tmp_path)
    other = trained.model("mucald").network()
    with pytest.raises(ModelError, match="differs from the model"):
        check_export(other, tmp_path, (3, 16, 16))


def bundle_workflow(folder):
    return ConfigWorkflow(
        config_file=str(folder / "bundle/configs/inference.json"),
        meta_file=str(folder / "bundle/configs/metadata.json"),
        workflow_type="inference",
        logging_file=False,
        bundle_root=str(folder / "bundle"),
        dataset_dir=str(folder / "images"),
        output_dir=str(folder / "masks"),
    )


def test_the_bundle_refuses_what_training_refuses(trained, tmp_path):
    export(trained.model("no noise"), tmp_path / "bundle")
    (tmp_path / "images").mkdir()
    save_png(tmp_path / "images/colour.png", np.ones((8, 8, 3), np.uint16), 16, 2)
    workflow = bundle_workflow(tmp_path)
    workflow.initialize()
    with pytest.raises(RuntimeError, match="Failed to evaluate") as caught:
        workflow.run()
    assert "colour.png: holds more than one channel of 16 bits" in str(caught.value.__cause__)


def test_the_bundle_alone_gives_the_masks_of_the_tool(trained, tmp_path, capsys):
    model = trained.model("mucald")
    export(model, tmp_path / "bundle")
    write_pictures(images_of(model.config), tmp_path / "images")
    # One of another size and shape.
    wide = Image.open(tmp_path / "images/00.png").resize((40, 24))
    wide.save(tmp_path / "images/wide.jpg")
    # And some that Pillow alone would read as something else.
    deep = np.asarray(wide.convert("L")).astype(np.uint16) * 16
    Image.fromarray(deep).save(tmp_path / "images/deep.png")
    wide.save(tmp_path / "images/strips.tif", compression="tiff_lzw")
    wide.save(tmp_path / "images/turned.webp", exif=turned(6), lossless=True)
    (tmp_path / "images/notes.txt").write_text("not a picture")
    workflow = bundle_workflow(tmp_path)
    workflow.initialize()
    assert "not read: notes.txt" in capsys.readouterr().out
    workflow.run()
    segmenter = Segmenter(model.network(), 16, 1)
    predict_images(find_inputs([tmp_path / "images"], False), segmenter, model.task, tmp_path / "expected")
    expected = sorted((tmp_path / "expected").glob("*.png"))
    assert len(expected) == 9
    assert Image.open(tmp_path / "masks/turned.png").size == (24, 40)
    for path in expected:
        mask = np.asarray(Image.open(tmp_path / "masks" / path.name))
        assert np.array_equal(mask, np.asarray(Image.open(path))), path.name


def test_metadata_tells_use_inputs_and_classes(trained, tmp_path):
    export(trained.model("mucald"), tmp_path)
    content = json.loads((tmp_path / "configs/metadata.json").read_text())
    assert content["intended_use"] == "research, not for diagnosis"
    image = content["network_data_format"]["inputs"]["image"]
    assert (image["spatial_shape"], image["value_range"]) == ([16, 16], [0, 1])
    output = content["network_data_format"]["outputs"]["pred"]
    assert output["channel_def"] == {"0": "background", "1": "lesion"}
    assert "fixed draw" in content["description"]


def test_the_command_writes_a_bundle(trained, tmp_path):
    run = trained.run("no noise").folder / "results"
    command = [sys.executable, "tools/export.py", "--run", run, "--site", SITE, "--out", tmp_path / "bundle"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "logits differ" in done.stdout
    assert (tmp_path / "bundle/models/model.ts").exists()
