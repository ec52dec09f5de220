"""Backbones, where images lie, and how their embeddings are made."""

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mucald.commands.data import embed, share_out
from mucald.config.common import DataConfig
from mucald.data.embeddings.backbones import load_backbone
from mucald.data.embeddings.making import embed_source
from mucald.data.embeddings.sets import read_set
from mucald.data.embeddings.sources import SOURCES
from mucald.data.loading import load_site_data
from mucald.errors import ConfigError, DataError, WorkspaceError
from mucald.tasks import get_task

NODE, CELL, BRAIN = (get_task(name) for name in ("lymph_node", "white_cell", "brain_tumour"))


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def in_folders(root: Path, count: int = 5) -> Path:
    for number in range(2 * count):
        picture(root / ("normal", "cancer")[number % 2] / f"{number:02d}.png", number)
    return root


def test_images_in_folders_have_their_folders_class(tmp_path):
    root = in_folders(tmp_path)
    for names, said in (
        ({}, r"say which is meant: --class 'cancer=NAME'$"),
        ({"cancer": "tumor", "normal": "healthy"}, "--class 'cancer=NAME' --class 'normal=NAME'$"),
    ):
        with pytest.raises(DataError, match=said):
            SOURCES["folders"](root, NODE, names)
    source = SOURCES["folders"](root, NODE, {"cancer": "tumour"})
    assert sorted(source.labels) == [0] * 5 + [1] * 5
    assert source.read(0).shape == (20, 24, 3)


def test_a_table_names_the_class_of_each_file(tmp_path):
    for number in range(3):
        picture(tmp_path / f"{number}.png", number)
    (tmp_path / "classes.csv").write_text("0.png,1\n1.png,3\n2.png,1\n")
    source = SOURCES["table"](tmp_path, CELL, {"1": "neutrophil", "3": "monocyte"})
    assert source.labels == [0, 2, 0]
    with pytest.raises(DataError, match=r"basophil; say which is meant: --class '3=NAME'$"):
        SOURCES["table"](tmp_path, CELL, {"1": "neutrophil"})


def test_medmnist_keeps_its_splits(tmp_path):
    arrays = {}
    for number, name in enumerate(("train", "val", "test")):
        arrays[f"{name}_images"] = np.full((2, 8, 8), 60 * number, np.uint8)
        arrays[f"{name}_labels"] = np.array([[0], [1]])
    np.savez(tmp_path / "organ.npz", **arrays)
    source = SOURCES["medmnist"](tmp_path / "organ.npz", NODE, {})
    assert (source.labels, source.splits) == ([0, 1] * 3, [0, 0, 1, 1, 2, 2])
    assert source.read(4).shape == (8, 8, 3)
    arrays["test_labels"][0] = 7
    np.savez(tmp_path / "organ.npz", **arrays)
    with pytest.raises(DataError, match="other classes"):
        SOURCES["medmnist"](tmp_path / "organ.npz", NODE, {})


def test_camelyon17_has_patients_and_hospitals(tmp_path):
    rows = [
        {"patient": f"00{n}", "node": n, "x_coord": 3, "y_coord": 4, "tumor": n % 2, "center": n}
        for n in range(3)
    ]
    for n, row in enumerate(rows):
        folder = f"patient_{row['patient']}_node_{row['node']}"
        picture(tmp_path / "patches" / folder / f"patch_{folder}_x_3_y_4.png", n)
    with (tmp_path / "metadata.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=rows[0])
        writer.writeheader()
        writer.writerows(rows)
    source = SOURCES["camelyon17"](tmp_path, NODE, {})
    assert (source.labels, source.cases) == ([0, 1, 0], ["000", "001", "002"])
    assert source.groups == {"hospital": ["0", "1", "2"]}
    assert source.read(2).shape == (20, 24, 3)
    for changed, said in (("tumor", "no column 'center'; copy"), ("tumor,center", "tumor is 'x', no class")):
        (tmp_path / "metadata.csv").write_text(
            f"patient,node,x_coord,y_coord,{changed}\n0,0,3,4,x{',0' * changed.count(',')}\n"
        )
        with pytest.raises(DataError, match=said):
            SOURCES["camelyon17"](tmp_path, NODE, {})


def test_a_data_list_names_classes_patients_and_splits(tmp_path):
    for number in range(3):
        picture(tmp_path / f"{number}.png", number)
    content = {
        "training": [{"image": "0.png", "label": "tumour", "case": "a"}],
        "validation": [{"image": "1.png", "label": 0, "case": "b"}],
        "test": [{"image": "2.png", "label": 1, "case": "c"}],
    }
    (tmp_path / "list.json").write_text(json.dumps(content))
    source = SOURCES["datalist"](tmp_path / "list.json", NODE, {})
    assert (source.labels, source.cases, source.splits) == ([1, 0, 1], ["a", "b", "c"], [0, 1, 2])

    for entry, said in (
        ({"label": 0}, "training\\[0\\] must have 'image' and 'label'"),
        ({"image": ["0.png", "1.png"], "label": 0}, "must name one image"),
        ({"image": "0.png", "label": "odd"}, "not 'odd'; add --class 'odd=NAME'"),
    ):
        (tmp_path / "list.json").write_text(json.dumps({"training": [entry]}))
        with pytest.raises(DataError, match=said):
            SOURCES["datalist"](tmp_path / "list.json", NODE, {})


def test_what_was_done_before_a_stop_is_not_done_again(tmp_path, caplog):
    source = SOURCES["folders"](in_folders(tmp_path / "images"), NODE, {"cancer": "tumour"})
    backbone, path = load_backbone("random-features"), tmp_path / "set.safetensors"
    stopped = embed_source(source, NODE, backbone, path, 4)
    assert [next(stopped), next(stopped)] == [4, 8]
    stopped.close()
    with caplog.at_level("INFO"):
        assert list(embed_source(source, NODE, backbone, path, 4)) == [10]
    assert "8 of 10 images were embedded before" in caplog.text
    whole = tmp_path / "whole.safetensors"
    assert list(embed_source(source, NODE, backbone, whole, 4)) == [4, 8, 10]
    for name, tensor in read_set(whole).tensors().items():
        assert torch.equal(tensor, read_set(path).tensors()[name])
    assert [item.name for item in tmp_path.iterdir() if "partial" in item.name] == []
    assert path.stat().st_mode & 0o077 == 0, "it is the site's own"


def test_what_was_done_before_an_image_that_cannot_be_read_is_not_done_again(tmp_path):
    source = SOURCES["folders"](in_folders(tmp_path / "images"), NODE, {"cancer": "tumour"})
    backbone, path = load_backbone("random-features"), tmp_path / "set.safetensors"
    last = tmp_path / "images/normal/08.png"
    whole = last.read_bytes()
    last.write_bytes(whole[:50])
    with pytest.raises(DataError, match=r"08\.png"):
        list(embed_source(source, NODE, backbone, path, 4))
    last.write_bytes(whole)
    assert list(embed_source(source, NODE, backbone, path, 4)) == [10]


def test_the_command_says_what_was_done_before_a_stop(tmp_path):
    source = SOURCES["folders"](in_folders(tmp_path / "images"), NODE, {"cancer": "tumour"})
    stopped = embed_source(source, NODE, load_backbone("random-features"), tmp_path / "set.npz", 4)
    next(stopped)
    stopped.close()
    wanted = ["--layout", "folders", "--task", "lymph_node", "--class", "cancer=tumour"]
    wanted += ["--backbone", "random-features", "--out", str(tmp_path / "set.npz")]
    command = [sys.executable, "-m", "mucald", "embed", str(tmp_path / "images"), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "4 of 10 images were embedded before" in done.stderr
    assert "10 images as 128 numbers each" in done.stdout


def test_a_set_of_another_network_is_never_overwritten(tmp_path):
    source = SOURCES["folders"](in_folders(tmp_path / "images"), NODE, {"cancer": "tumour"})
    path = tmp_path / "set.safetensors"
    list(embed_source(source, NODE, load_backbone("random-features"), path, 4))
    with pytest.raises(WorkspaceError, match="holds embeddings of random-features"):
        list(embed_source(source, NODE, load_backbone("efficientnet-lite0", size=32), path, 4))
    with pytest.raises(WorkspaceError, match=r"give another file for random-features \(resized to 48 x 48"):
        list(embed_source(source, NODE, load_backbone("random-features", size=48), path, 4))


def test_what_was_done_at_another_size_before_a_stop_is_done_anew(tmp_path):
    source = SOURCES["folders"](in_folders(tmp_path / "images"), NODE, {"cancer": "tumour"})
    small, large = (load_backbone("random-features", size=size) for size in (32, 64))
    next(stopped := embed_source(source, NODE, small, tmp_path / "set.safetensors", 4))
    next(stopped)
    stopped.close()
    assert list(embed_source(source, NODE, large, tmp_path / "set.safetensors", 4)) == [4, 8, 10]


def test_the_installed_pretrained_network_embeds_alike_in_any_batch_and_tells_its_weights():
    backbone = load_backbone("efficientnet-lite0", size=64)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    whole = backbone.embed(images)
    assert whole.shape == (3, 1280)
    torch.testing.assert_close(whole[1:2], backbone.embed(images[1:2]), rtol=1e-4, atol=1e-4)
    assert backbone.weights == load_backbone("efficientnet-lite0", size=64).weights
    assert float(whole.std(dim=0).mean()) > 0


def test_what_is_not_there_is_named_with_the_fix(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no such file of weights"):
        load_backbone("efficientnet-lite0", tmp_path / "none.safetensors")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ConfigError, match=r"'dinov2-base' is not installed; pip install 'mucald\[embeddings\]'"
    ):
        load_backbone("dinov2-base")
    with pytest.raises(ConfigError, match=r"no backbone 'resnet' .*efficientnet-lite0, .* pip install"):
        load_backbone("resnet")


def test_a_task_without_embeddings_is_refused_with_those_that_have_some(tmp_path, capsys):
    wanted = ["--layout", "folders", "--task", "kvasir", "--out", str(tmp_path / "set.npz")]
    with pytest.raises(SystemExit):
        embed.main([str(in_folders(tmp_path / "images")), *wanted])
    assert "no embeddings; those that have: phantom_kind, brain_tumour," in capsys.readouterr().err


def test_timm_s_networks_take_weights_from_a_file_in_any_size_and_refuse_those_of_another(tmp_path):
    timm = pytest.importorskip("timm")
    files = {}
    for name in ("vit_tiny_patch16_224", "resnet18"):
        files[name] = tmp_path / f"{name}.pth"
        torch.save(timm.create_model(name, pretrained=False).state_dict(), files[name])
        backbone = load_backbone(name, files[name], 64)
        assert backbone.embed(torch.rand(2, 3, 64, 64)).shape == (2, {"resnet18": 512}.get(name, 192))
    with pytest.raises(ConfigError, match="give the weights of that network"):
        load_backbone("vit_tiny_patch16_224", files["resnet18"])
    with pytest.raises(ConfigError, match="does not fit vit_small_patch16_224"):
        load_backbone("vit_small_patch16_224", files["vit_tiny_patch16_224"])


def test_commands_make_a_set_and_share_it_out_to_sites_that_train(tmp_path, capsys):
    for number in range(60):
        picture(tmp_path / "images" / BRAIN.classes[number % 4] / f"{number:02d}.png", number)
    out = tmp_path / "set.safetensors"
    arguments = ["--layout", "folders", "--task", "brain_tumour", "--backbone", "random-features"]
    assert embed.main([str(tmp_path / "images"), *arguments, "--out", str(out)]) == 0
    assert "60 images as 128 numbers each of random-features" in capsys.readouterr().out
    wanted = ["--task", "brain_tumour", "--way", "iid", "--sites", "3", "--out", str(tmp_path / "home")]
    assert share_out.main([str(out), *wanted]) == 0
    assert capsys.readouterr().out.startswith("site_01: ")
    site = load_site_data("site_01", "brain_tumour", DataConfig(), 7, tmp_path / "home/site_01")
    assert sum(map(len, (site.train, site.validation, site.test))) == 20
    assert share_out.main([str(out), *wanted]) == 1
    assert "--force" in capsys.readouterr().err
    # Two sites in place of three would leave a third, whose patients the two have now.
    assert share_out.main([str(out), *wanted, "--sites", "2", "--force"]) == 1
    assert f"{tmp_path}/home/site_03: of an earlier call; patients" in capsys.readouterr().err
    assert share_out.main([str(out), *wanted, "--task", "organ", "--force"]) == 1
    assert (
        "its classes are glioma, meningioma, none, pituitary, those of task organ" in capsys.readouterr().err
    )


def test_sites_by_metadata_are_printed_with_its_value(tmp_path, capsys):
    source = SOURCES["folders"](in_folders(tmp_path / "images", 6), NODE, {"cancer": "tumour"})
    source = dataclasses.replace(source, groups={"hospital": ["east", "west"] * 6})
    list(embed_source(source, NODE, load_backbone("random-features"), tmp_path / "set.npz", 4))
    wanted = [
        "--task",
        "lymph_node",
        "--way",
        "metadata",
        "--by",
        "hospital",
        "--out",
        str(tmp_path / "home"),
    ]
    assert share_out.main([str(tmp_path / "set.npz"), *wanted]) == 0
    assert "site_02 (hospital west): 3 normal, 3 tumour" in capsys.readouterr().out
