"""The participant that holds the data of all sites: degenerate cases, and what a run must withstand."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from stopped import RESUMED, run_until
from tiny_job import (
    CPU,
    PLAIN,
    Federation,
    Run,
    equal_models,
    equal_tensors,
    pooled_config,
    run_job,
    site_data,
    tiny_config,
)

from mucald.errors import ConfigError, TrainingError
from mucald.federation.participant import create_site
from mucald.methods import family_of
from mucald.methods.pooled.site import PooledSite
from mucald.metrics import segmentation as metrics
from mucald.state.checkpoint import load_checkpoint
from mucald.training.whole_model import WholeModel
from mucald_studies.reporting.pictures import site_examples
from mucald_studies.reporting.runs import Run as ReportedRun

SITES = ("north", "south", "west")
CONFIG = pooled_config()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_job(CONFIG, tmp_path_factory.mktemp("pooled"))


def pooled_site(folder: Path, config=CONFIG) -> PooledSite:
    site = create_site(family_of("pooled"), "pooled", config, folder, "run", CPU)
    assert isinstance(site, PooledSite)
    return site


@pytest.mark.parametrize("clip_norm", [1e9, 0.05])
def test_with_one_site_it_is_a_split_run_without_noise(clip_norm, tmp_path):
    """Bit for bit, whether or not gradients are bounded: the split network in one piece is one function."""
    one = {
        "sites": {"north": {"task": "kvasir"}},
        "min_sites": 1,
        "training": {"rounds": 3, "local_epochs": 2},
        "data": {"phantoms": {"train": 5, "validation": 3, "test": 3}},
        "optimiser": {"clip_norm": clip_norm},
    }
    split = run_job(tiny_config(PLAIN, one), tmp_path / "split")
    pooled = run_job(pooled_config(one), tmp_path / "pooled")
    for key in ("validation", "best_round", "test", "dice_per_image", "n_train"):
        assert pooled.results["sites"]["north"][key] == split.results["sites"]["north"][key], key
    for entry in split.results["rounds"]:
        # What only a split job has: nothing here, for the job has neither discriminators nor proxies.
        assert entry.pop("discriminators") == {}
        assert entry["sites"]["north"].pop("proxy_mse") is None
    assert pooled.results["rounds"] == split.results["rounds"]
    models = split.models()
    expected = models["results/north/models/north.safetensors"]
    expected |= models["results/server/models/north.safetensors"]
    assert equal_tensors(pooled.models()["results/pooled/models/north.safetensors"], expected)


def test_a_step_leaves_the_back_ends_of_other_sites_alone():
    """Even where AdamW remembers an earlier gradient."""
    data = {site: site_data(CONFIG, site) for site in SITES}
    network = WholeModel(CONFIG, data, CPU)
    batch = data["north"].train.batch([0, 1])
    network.train_step("north", batch.inputs, batch.targets, "0/0")
    before = network.state()
    before = {name: tensor.clone() for name, tensor in before.items()}
    batch = data["south"].train.batch([0, 1])
    network.train_step("south", batch.inputs, batch.targets, "0/1")
    after = network.state()
    north = [n for n in before if n.startswith("weights.back_end_0.")]
    assert north
    # Neither gradient nor weight decay nor AdamW's memory moves a back end that the step does not use.
    assert all(torch.equal(before[name], after[name]) for name in north)
    changed = {
        name.split(".")[1]
        for name in after
        if name.startswith("weights.") and not torch.equal(before[name], after[name])
    }
    assert changed == {"front_end", "middle", "back_end_1"}


def test_an_image_reaches_its_own_sites_back_end_and_no_other(tmp_path, monkeypatch):
    site = pooled_site(tmp_path)
    own = {
        name: {
            image.numpy().tobytes()
            for split in ("train", "validation", "test")
            for image in getattr(data, split).whole().inputs
        }
        for name, data in site._data.items()
    }
    reached: dict[str, set[bytes]] = {name: set() for name in SITES}

    def listen(inner):
        def listening(self, name, images, *rest, **named):
            counts = []
            hooks = [
                network.back_end.register_forward_hook(lambda *_, owner=owner: counts.append(owner))
                for owner, network in self.networks.items()
            ]
            result = inner(self, name, images, *rest, **named)
            for hook in hooks:
                hook.remove()
            (owner,) = counts
            reached[owner] |= {image.numpy().tobytes() for image in images}
            return result

        return listening

    for method in ("train_step", "predict"):
        monkeypatch.setattr(WholeModel, method, listen(getattr(WholeModel, method)))
    monkeypatch.setattr("mucald.federation.in_process.create_site", lambda *_: site)
    run_job(CONFIG, tmp_path)
    assert reached == own


def test_the_phantoms_are_the_very_images_that_each_site_draws(tmp_path):
    site = pooled_site(tmp_path)
    split = Federation(tiny_config(PLAIN), tmp_path / "split")
    for name in SITES:
        drawn = create_site(split.family, name, split.config, tmp_path / name, "run", CPU)._data
        for part in ("train", "validation", "test"):
            mine, its = getattr(site._data[name], part), getattr(drawn, part)
            assert torch.equal(mine.pixels, its.pixels)
            assert torch.equal(mine.labels, its.labels)


def test_every_epoch_has_each_image_once_in_batches_of_one_site_each_in_another_order(tmp_path):
    site = pooled_site(tmp_path, pooled_config(data={"phantoms": {"train": 7}}))
    epochs = [site._mixed(0, 0), site._mixed(0, 1), site._mixed(1, 0)]
    for epoch in epochs:
        rows = Counter((name, int(row)) for name, batch in epoch for row in batch)
        assert rows == Counter((name, row) for name in SITES for row in range(7))
        assert len(epoch) == len(SITES) * 4
    assert len({tuple(name for name, _ in epoch) for epoch in epochs}) == 3
    again = pooled_site(tmp_path / "again", site._config)._mixed(0, 1)
    assert [(name, rows.tolist()) for name, rows in again] == [(n, r.tolist()) for n, r in epochs[1]]


def test_the_sites_share_front_end_and_middle_network_but_no_back_end(run):
    tensors = run.checkpoint("pooled", 2)
    parts = {name.split(".")[1] for name in tensors if name.startswith("weights.")}
    assert parts == {"front_end", "middle", "back_end_0", "back_end_1", "back_end_2"}


def test_each_site_keeps_the_model_of_its_own_best_round(run):
    tensors = run.checkpoint("pooled", 2)
    for number, (site, entry) in enumerate(sorted(run.results["sites"].items())):
        model = run.models()[f"results/pooled/models/{site}.safetensors"]
        modules = {"front_end": "front_end", "middle": "middle", "back_end": f"back_end_{number}"}
        last = {
            f"{part}.{name.removeprefix(f'weights.{module}.')}": tensor
            for part, module in modules.items()
            for name, tensor in tensors.items()
            if name.startswith(f"weights.{module}.")
        }
        assert equal_tensors(model, last) == (entry["best_round"] == 1)


def test_by_group_sites_of_one_task_share_a_whole_network_and_nothing_with_others(tmp_path):
    run = run_job(pooled_config(by_group=True), tmp_path)
    tensors = run.checkpoint("pooled", 2)
    parts = {name.split(".")[1] for name in tensors if name.startswith("weights.")}
    # North and west have one task.
    assert parts == {"front_end", "middle", "back_end_0", "front_end_1", "middle_1", "back_end_1"}


def test_a_group_of_one_learns_as_if_it_were_alone(tmp_path):
    sites = {"north": {"task": "kvasir"}, "south": {"task": "ham10k"}}
    both = run_job(pooled_config(by_group=True, sites=sites), tmp_path / "both").results["sites"]
    for site, chosen in sites.items():
        alone = run_job(pooled_config(sites={site: chosen}), tmp_path / site).results["sites"][site]
        for key in ("validation", "test", "dice_per_image"):
            assert alone[key] == both[site][key], (site, key)


def test_a_group_of_different_classes_has_no_back_end_to_share():
    sites = {"a": {"task": "kvasir", "group": "x"}, "b": {"task": "fetal", "group": "x"}}
    config = pooled_config(by_group=True, sites=sites)
    with pytest.raises(ConfigError, match=r"need equally many classes, not {'a': 2, 'b': 3}"):
        family_of("pooled").check(config, ["pooled"])


def test_the_file_of_a_model_says_whose_it_is(run):
    _, state = load_checkpoint(run.folder / "results/pooled/models/south.safetensors")
    assert (state["site"], state["task"]) == ("south", "ham10k")
    assert state["config"] == run.results["config"]
    assert not list(run.server.glob("models/*"))


def test_reports_and_pictures_are_found_by_site(run):
    reported = ReportedRun(run.folder / "results/results.json", run.results)
    for site in SITES:
        dice = run.results["sites"][site]["dice_per_image"]
        told = [f"Dice {dice[row]:.3f}" for row in metrics.telling_images(dice)]
        assert [picture.caption.split(": ")[1] for picture in site_examples(reported, site)] == told


@pytest.mark.parametrize("change", ["workers", "order of the sites", "new process per task"])
def test_the_numbers_depend_on_neither_of(change, run, tmp_path):
    if change == "workers":
        again = run_job(CONFIG, tmp_path, workers=3)
    elif change == "order of the sites":
        again = run_job(
            pooled_config(sites=dict(reversed(list(run.results["config"]["sites"].items())))),
            tmp_path,
        )
    else:
        federation = Federation(CONFIG, tmp_path, new_process=True)
        federation.run()
        again = Run(tmp_path, federation.coordinator.finish())
    assert again.results["sites"] == run.results["sites"]
    rounds = [entry["sites"] for entry in again.results["rounds"]]
    assert rounds == [entry["sites"] for entry in run.results["rounds"]]
    assert equal_tensors(again.checkpoint("pooled", 2), run.checkpoint("pooled", 2))


@pytest.mark.parametrize(
    ("round_number", "when"), [(0, "before"), (0, "after"), (1, "before"), (2, "before")]
)
def test_a_stopped_run_ends_with_the_numbers_of_one_never_stopped(round_number, when, tmp_path, run):
    name = run_until(CONFIG, tmp_path, round_number, when)
    resumed = run_job(pooled_config(RESUMED), tmp_path)
    assert resumed.results["run_id"] == name
    expected = run.numbers()
    expected["config"] |= {key: resumed.results["config"][key] for key in ("description", "runtime")}
    assert resumed.numbers() == expected
    assert equal_models(resumed, run)


def test_a_lost_checkpoint_stops_the_run_rather_than_begin_anew(tmp_path):
    run_until(CONFIG, tmp_path, 0, "after")
    for path in (tmp_path / "home/pooled/runs").glob("*/*/site.safetensors"):
        path.unlink()
    with pytest.raises(TrainingError, match="0 sites finished round 2, but min_sites is 1"):
        run_job(pooled_config(RESUMED), tmp_path)


def test_a_loss_that_is_not_finite_names_the_site_and_stops_the_run(tmp_path, caplog):
    wild = pooled_config(optimiser={"learning_rate": 1e30, "clip_norm": 1e30})
    with pytest.raises(TrainingError, match="0 sites finished round 1"):
        run_job(wild, tmp_path)
    assert "is not finite at round/step 0/" in caplog.text
    assert "site 'pooled' is left out of round 1" in caplog.text


def test_a_site_without_any_class_to_score_keeps_no_round(tmp_path):
    site = pooled_site(tmp_path)
    assert not site._model.keep_if_best("north", None)
    assert site._model.keep_if_best("north", 0.0)
    assert not site._model.keep_if_best("north", 0.0)
    assert site._model.best["south"].weights == {}


def test_the_results_are_json(run):
    assert json.loads((run.server / "results.json").read_text()) == run.results


def test_one_participant_takes_the_place_of_the_sites():
    assert family_of("pooled").participants(CONFIG) == ["pooled"]
    assert family_of("pooled").members(CONFIG, "pooled") == SITES
    assert family_of("split").participants(tiny_config(PLAIN)) == ["north", "south", "west"]


def test_another_participant_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="only 'pooled' takes part, not north, south; name it alone"):
        run_job(CONFIG, tmp_path, sites=["north", "south"])


def test_the_participant_must_be_named():
    with pytest.raises(ConfigError, match="'participant' must be of type str"):
        pooled_config(participant=3)
