import json
import re
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tiny_job import run_job, tiny_config, write_policy

from mucald.data.images.phantoms import PHANTOMS
from mucald.metrics.names import NAMES
from mucald.metrics.scoring import Previews
from mucald.results.history import History
from mucald.results.tensorboard import ScalarWriter, write_previews


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return events


def scalars(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.fixture(scope="module")
def server(full) -> EventAccumulator:
    return read(full.run.server / "tb_events")


def expected_scalars(results: dict) -> dict[str, list[tuple[int, float]]]:
    """Return every curve that the results imply, by tag."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in results["rounds"]:
        step = record["round"] + 1
        for site, entry in record["sites"].items():
            for name, value in entry["losses"].items():
                curves.setdefault(f"loss_{name}/{site}", []).append((step, value))
            for name, value in entry["gradients"].items():
                curves.setdefault(f"gradient_norm_{name}/{site}", []).append((step, value))
        for name, value in record["discriminators"].items():
            curves.setdefault(f"discriminators/{name}", []).append((step, value))
        for name in ("segmentation", "causal", "denoiser"):
            rate = results["config"]["optimiser"][name]
            curves.setdefault(f"learning_rate/{name}", []).append((step, rate))
    for site, entry in results["sites"].items():
        curves[f"dice_validation/{site}"] = [(v["round"] + 1, v["dice"]) for v in entry["validation"]]
        for metric in NAMES["mask"].metrics:
            curves[f"test_{metric}/{site}"] = [(0, entry["test"][metric])]
    for metric, mean in results["mean"]["test"].items():
        curves[f"mean_test/{metric}"] = [(0, mean)]
    return curves


def test_a_runs_numbers_can_be_read_back(server, full):
    expected = expected_scalars(full.run.results)
    assert {"loss_diffusion_1/north", "gradient_norm_prior/south", "test_hd95/west"} <= set(expected)
    assert set(server.Tags()["scalars"]) == set(expected)
    for tag, curve in expected.items():
        found = scalars(server, tag)
        assert [step for step, _ in found] == [step for step, _ in curve], tag
        assert [value for _, value in found] == pytest.approx([value for _, value in curve], rel=1e-5), tag


def test_every_loss_has_one_chart_over_all_sites(server):
    (event,) = server.Tensors("custom_scalars__config__")
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for part in layout.category for chart in part.chart}
    assert [part.title for part in layout.category] == ["validation", "losses", "gradient norms", "test"]
    of_losses = {tag.split("/")[0] for tag in server.Tags()["scalars"] if tag.startswith("loss_")}
    assert "loss_diffusion_1" in of_losses <= charts.keys(), "also of those that begin later"
    for name in of_losses:
        (pattern,) = charts[name]
        shown = {tag for tag in server.Tags()["scalars"] if re.match(pattern, tag)}
        assert shown == {f"{name}/{site}" for site in ("north", "south", "west")}, name
    assert all(any(re.match(tag, name) for name in server.Tags()["scalars"]) for (tag,) in charts.values())


def test_the_settings_of_a_run_stand_beside_its_scores(server, full):
    plugin = server.summary_metadata["_hparams_/session_start_info"].plugin_data
    settings = HParamsPluginData.FromString(plugin.content).session_start_info.hparams
    assert settings["training.rounds"].number_value == full.run.results["config"]["training"]["rounds"]
    assert settings["aggregation.rule"].string_value == full.run.results["config"]["aggregation"]["rule"]
    assert "description" not in settings
    experiment = server.summary_metadata["_hparams_/experiment"].plugin_data
    metrics = HParamsPluginData.FromString(experiment.content).experiment.metric_infos
    assert {metric.name.tag for metric in metrics} == {f"mean_test/{name}" for name in NAMES["mask"].metrics}


def test_the_server_has_no_pictures(server):
    assert server.Tags()["images"] == []


def test_a_sites_pictures_lie_in_its_own_folder(full):
    folders = {path.parent.parent.name for path in full.run.folder.rglob("events.out.tfevents.*")}
    assert folders == {"server", "north", "south", "west"}
    for site in ("north", "south", "west"):
        events = read(full.run.folder / "results" / site / "tb_events")
        assert events.Tags()["scalars"] == []
        assert events.Tags()["images"] == [f"image, labels, prediction/{site}"]


def test_a_site_writes_no_picture_of_its_own_images_unless_site_file_and_policy_allow_it(tmp_path):
    from PIL import Image

    from mucald.randomness import generator

    for site, allowed, policy in (("north", False, True), ("south", True, True), ("west", True, False)):
        task = tiny_config().site(site).task
        home = tmp_path / "home" / site
        for index in range(10):
            pair = PHANTOMS[task](generator("pictures", index), 16)
            for part, array in zip(("images", "masks"), pair, strict=True):
                (home / part).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(home / part / f"{index}.png")
        content = {"task": task, "root": ".", "layout": "pairs", "tensorboard_images": allowed}
        (home / "site.json").write_text(json.dumps(content))
        write_policy(home, tensorboard_images=policy)
    run = run_job(tiny_config(), tmp_path)
    assert run.results["failures"] == []
    pictures = {path.parent.parent.name for path in (tmp_path / "results").rglob("events.out.tfevents.*")}
    assert pictures == {"server", "south"}


def test_earlier_rounds_are_written_again_in_a_resumed_session(tmp_path, full):
    history = History(rounds=full.run.results["rounds"])
    writer = ScalarWriter(tmp_path, tiny_config(), history)
    writer.close({"sites": {}, "mean": {"test": {}}})
    found = scalars(read(tmp_path), "loss_segmentation/north")
    assert [step for step, _ in found] == [1, 2]


def test_a_picture_shows_image_labels_and_prediction_side_by_side(tmp_path):
    images = torch.full((2, 3, 8, 8), 0.5)
    labels, predictions = torch.zeros(2, 8, 8, dtype=torch.int64), torch.zeros(2, 8, 8, dtype=torch.int64)
    labels[0, 2:4, 2:4] = 1
    predictions[0, 5:7, 5:7] = 2
    write_previews(tmp_path, "north", Previews(images, labels, predictions), 3)
    (event,) = read(tmp_path).Images("image, labels, prediction/north")
    assert event.step == 3
    assert (event.width, event.height) == (3 * 8, 2 * 8)
    picture = decode_png(event.encoded_image_string)
    grey = picture[0, 0]
    changed = (picture != grey).any(dim=2)
    expected = torch.zeros(16, 24, dtype=torch.bool)
    expected[2:4, 8 + 2 : 8 + 4] = True
    expected[5:7, 16 + 5 : 16 + 7] = True
    assert torch.equal(changed, expected)
    assert not torch.equal(picture[2, 10], picture[5, 21]), "each class has its colour"


def decode_png(data: bytes) -> torch.Tensor:
    """Return a picture (H, W, 3)."""
    from io import BytesIO

    import numpy as np
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(BytesIO(data)).convert("RGB")))
