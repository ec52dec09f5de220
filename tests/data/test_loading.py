import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from commands import load_tool
from image_files import write_pair
from PIL import Image, ImageOps
from safetensors.torch import save_file

from mucald.config.common import DataConfig, PhantomConfig
from mucald.data.images.phantoms import PHANTOMS
from mucald.data.loading import LOADERS, load_site_data
from mucald.data.site_data import SiteData
from mucald.errors import ConfigError, DataError
from mucald.methods.split.causal.graphs import measures_of
from mucald.randomness import generator
from mucald.tasks import TASKS, Task

COUNTS = PhantomConfig(train=6, validation=2, test=3)
DATA = DataConfig(image_size=16, phantoms=COUNTS)
SPLITS = ("train", "validation", "test")


def phantoms(
    site: str = "embryo", task: str | None = "blastocyst", seed: int = 7, home: Path | None = None
) -> SiteData:
    return load_site_data(site, task, DATA, seed, home, measures_of)


def own(home: Path, size: int = 16, seed: int = 7) -> SiteData:
    return load_site_data(
        "hospital", None, DataConfig(image_size=size, phantoms=COUNTS), seed, home, measures_of
    )


def test_phantom_site() -> None:
    data = phantoms()
    assert [len(getattr(data, name)) for name in SPLITS] == [6, 2, 3]
    batch = data.train.batch([4, 1])
    assert (batch.inputs.shape, batch.inputs.dtype) == ((2, 3, 16, 16), torch.float32)
    assert (batch.targets.shape, batch.targets.dtype) == ((2, 16, 16), torch.int64)
    assert (batch.measures.shape, batch.measures.dtype) == ((2, 4), torch.float32)
    assert 0 <= batch.inputs.min() < batch.inputs.max() <= 1
    assert torch.equal(data.train.whole().inputs[[4, 1]], batch.inputs)
    assert torch.equal(data.train.whole().targets[[4, 1]], batch.targets)
    assert (data.task.name, data.source, data.tensorboard_images) == ("blastocyst", "phantoms", True)
    assert data.noise_secret == "job seed 7"


def test_phantoms_are_keyed_by_seed_site_split_and_index() -> None:
    image, mask = PHANTOMS["blastocyst"](generator(7, "embryo", "phantom", "test", 2), 16)
    data = phantoms()
    assert np.array_equal(data.test.pixels[2].permute(1, 2, 0).numpy(), image)
    assert np.array_equal(data.test.labels[2].numpy(), mask)
    assert not torch.equal(data.test.pixels, phantoms(site="other").test.pixels)
    assert not torch.equal(data.test.pixels, phantoms(seed=8).test.pixels)
    assert not torch.equal(data.test.pixels[0], data.train.pixels[0])


def test_proxies_are_scored_with_the_training_statistics() -> None:
    data = phantoms(task="ham10k")
    raw = {
        name: np.array(
            [
                [proxy(p.permute(1, 2, 0).numpy(), m.numpy()) for proxy in measures_of("ham10k").functions]
                for p, m in zip(getattr(data, name).pixels, getattr(data, name).labels, strict=True)
            ]
        )
        for name in SPLITS
    }
    mean, deviation = raw["train"].mean(axis=0), raw["train"].std(axis=0, ddof=1)
    for name in SPLITS:
        assert np.allclose(getattr(data, name).measures, (raw[name] - mean) / deviation, atol=1e-4)


def test_site_without_task_tells_both_fixes() -> None:
    with pytest.raises(
        ConfigError, match=r"site 'embryo' has no task: put a site.json.*or set sites.embryo.task"
    ):
        phantoms(task=None)


def test_unknown_task_and_empty_phantom_split() -> None:
    with pytest.raises(ConfigError, match="did you mean 'blastocyst'"):
        phantoms(task="blastocist")
    with pytest.raises(ConfigError, match=r"data.phantoms.test must be at least 1, not 0"):
        load_site_data(
            "embryo",
            "blastocyst",
            DataConfig(image_size=16, phantoms=PhantomConfig(train=1, validation=1, test=0)),
            7,
            None,
        )


def test_a_task_that_nothing_loads_or_draws_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "chest", Task("chest", "Chest", ("background", "lung")))
    with pytest.raises(ConfigError, match=r"'chest' has no phantoms.*give site 'embryo' a site.json"):
        load_site_data("embryo", "chest", DATA, 7, None)
    monkeypatch.setitem(TASKS, "chest", Task("chest", "Chest", ("healthy", "ill"), "embedding", "class"))
    monkeypatch.delitem(LOADERS, "embedding")
    with pytest.raises(ConfigError, match=r"'chest' has .* the kind embedding.*\(known: image, volume\)"):
        load_site_data("embryo", "chest", DATA, 7, None)


def test_a_site_s_scanner_shows_the_scenes_that_it_has_anyway() -> None:
    standard, warm = phantoms(), load_site_data("embryo", "blastocyst", DATA, 7, None, scanner="warm")
    assert torch.equal(standard.test.labels, warm.test.labels)
    assert not torch.equal(standard.test.pixels, warm.test.pixels)
    with pytest.raises(ConfigError, match=r"sites.embryo.scanner: there is no 'wram'; did you mean 'warm'\?"):
        load_site_data("embryo", "blastocyst", DATA, 7, None, scanner="wram")


def test_home_without_site_file_means_phantoms(tmp_path: Path) -> None:
    assert phantoms(home=tmp_path).source == "phantoms"
    assert not list(tmp_path.iterdir())


def test_own_images(pairs: Path, site: Callable[..., Path]) -> None:
    home = site(task="kvasir", root=str(pairs), layout="pairs", tensorboard_images=True)
    data = own(home)
    assert [len(getattr(data, name)) for name in SPLITS] == [6, 2, 2]
    assert (data.task.name, data.source, data.tensorboard_images) == ("kvasir", "own images (pairs)", True)
    assert data.train.labels.unique().tolist() == [0, 1]
    assert len(data.noise_secret) == 64
    assert data.noise_secret not in repr(data)
    assert torch.allclose(data.train.measures.nan_to_num().mean(dim=0), torch.zeros(4), atol=1e-6)


@pytest.mark.parametrize(("pattern", "largest"), [(None, 1), ("^(.)", 10), ("(.)$", 3)])
def test_the_images_of_the_largest_patient_are_counted(
    pattern: str | None, largest: int, pairs: Path, site: Callable[..., Path]
) -> None:
    for name in ("10", "11", "12", "13", "20", "21"):
        write_pair(pairs / f"images/{name}.png", pairs / f"masks/{name}.png", int(name), top=255)
    home = site(task="kvasir", root=str(pairs), layout="pairs", case_pattern=pattern)
    for _ in ("prepared", "kept"):
        assert own(home).images_per_case == largest


def test_splits_of_own_images_do_not_depend_on_the_seed(pairs: Path, site: Callable[..., Path]) -> None:
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    assert torch.equal(own(home, seed=1).test.pixels, own(home, seed=2).test.pixels)


def test_resizing_averages_images_and_keeps_mask_values(pairs: Path, site: Callable[..., Path]) -> None:
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    for index in range(10):
        # In no two of them alike, for copies may not lie in two splits.
        checks[0, 0] = index
        Image.fromarray(checks.astype(np.uint8)).save(pairs / f"images/{index:02}.png")
        labels = np.zeros((64, 64), np.uint8)
        labels[:34] = 2
        Image.fromarray(labels).save(pairs / f"masks/{index:02}.png")
    data = own(site(task="wbc", root=str(pairs), layout="pairs"))
    assert (data.train.whole().inputs[..., 2:-2, 2:-2] - 0.5).abs().max() < 0.05
    assert data.train.labels.unique().tolist() == [0, 2]
    assert data.train.labels[:, :8].eq(2).all()
    assert data.train.labels[:, 9:].eq(0).all()


def test_volume_gives_one_sample_per_slice_in_one_split(site: Callable[..., Path], tmp_path: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    (tmp_path / "dataset.json").write_text(
        '{"labels": {"background": 0, "infection": 1}, "file_ending": ".nii.gz"}'
    )
    for case in range(5):
        volume = np.full((12, 10, case + 1), -900, np.int16)
        volume[4:8, 3:7] = 100 * (case + 1)
        labels = (volume > 0).astype(np.uint8)
        labels[..., 0] = 0
        for path, array in ((f"imagesTr/c{case}_0000", volume), (f"labelsTr/c{case}", labels)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{path}.nii.gz")
    data = own(site(task="mosmed", root=str(tmp_path), layout="nnunet"))
    assert sum(len(getattr(data, name)) for name in SPLITS) == 1 + 2 + 3 + 4 + 5
    empty = sum(int((getattr(data, name).labels.flatten(1).sum(1) == 0).sum()) for name in SPLITS)
    undefined = sum(int(getattr(data, name).measures.isnan().all(dim=1).sum()) for name in SPLITS)
    assert empty == undefined == 5


def test_datalist_splits(pairs: Path, site: Callable[..., Path]) -> None:
    def entries(*numbers: int) -> list[dict[str, str]]:
        return [{"image": f"images/{n:02}.png", "label": f"masks/{n:02}.png"} for n in numbers]

    sections = {"training": entries(0, 1, 2, 3), "validation": entries(4), "test": entries(5, 6)}
    (pairs / "list.json").write_text(json.dumps(sections))
    data = own(site(task="kvasir", datalist=str(pairs / "list.json"), mask_values={"255": 1}))
    assert [len(getattr(data, name)) for name in SPLITS] == [4, 1, 2]
    assert data.source == "own images (datalist)"


def test_job_and_site_file_must_agree(pairs: Path, site: Callable[..., Path]) -> None:
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    assert load_site_data("hospital", "kvasir", DATA, 7, home).task.name == "kvasir"
    with pytest.raises(ConfigError, match=r"site 'hospital' the task 'ham10k', its site.json 'kvasir'"):
        load_site_data("hospital", "ham10k", DATA, 7, home)


def test_cache_is_used_and_private(
    pairs: Path, site: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    fresh = own(home)
    (kept,) = (home / "cache").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    # Reading an image would now fail.
    monkeypatch.setattr("mucald.data.images.loader.read_set", None)
    again = own(home)
    for name in SPLITS:
        for array in ("pixels", "labels", "measures"):
            ours, theirs = getattr(getattr(fresh, name), array), getattr(getattr(again, name), array)
            assert torch.equal(ours.nan_to_num(), theirs.nan_to_num())


def test_cache_notices_changes(pairs: Path, site: Callable[..., Path]) -> None:
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    own(home)
    own(home, size=12)
    assert len(list((home / "cache").iterdir())) == 2
    for index in range(10):
        write_pair(pairs / f"images/{index:02}.png", pairs / f"masks/{index:02}.png", index + 100)
    changed = own(home)
    assert torch.equal(changed.train.pixels, own(home).train.pixels)
    os.utime(pairs / "images/00.png", ns=(1, 1))
    before = {path.name for path in (home / "cache").iterdir()}
    own(home)
    after = {path.name for path in (home / "cache").iterdir()}
    assert len(after) == len(before) == 2
    assert len(after - before) == 1


@pytest.mark.parametrize("in_place", [True, False])
def test_a_mask_of_the_same_size_and_time_is_read_anew(
    in_place: bool, pairs: Path, site: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    for path in sorted((pairs / "masks").iterdir()):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    assert load_tool("check_data").main([str(home / "site.json")]) == 0
    before = own(home)
    for path in (pairs / "masks").iterdir():
        status, mask = path.stat(), ImageOps.mirror(Image.open(path))
        if not in_place:
            path.unlink()
        mask.save(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert torch.equal(own(home).train.labels, before.train.labels.flip(-1))
    assert "have changed since they were checked" in caplog.text


def test_a_cache_that_holds_something_else_is_prepared_anew(pairs: Path, site: Callable[..., Path]) -> None:
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    fresh = own(home)
    (kept,) = (home / "cache").iterdir()
    save_file({"pixels": torch.zeros(1)}, kept)
    assert torch.equal(own(home).train.pixels, fresh.train.pixels)


def test_a_task_that_was_changed_since_the_check_is_said(
    pairs: Path, site: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    assert load_tool("check_data").main([str(home / "site.json")]) == 0
    own(site(task="ham10k", root=str(pairs), layout="pairs"))
    assert "have changed since they were checked" in caplog.text


def test_damaged_cache_is_prepared_anew(pairs: Path, site: Callable[..., Path]) -> None:
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    fresh = own(home)
    (kept,) = (home / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert torch.equal(own(home).train.pixels, fresh.train.pixels)
    assert kept.stat().st_size > 1000


def test_errors_of_files_reach_the_caller(pairs: Path, site: Callable[..., Path]) -> None:
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    (pairs / "images/03.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"03.png: cannot be read"):
        own(home)
    assert not (home / "cache").exists()


@pytest.mark.parametrize("target", ["nowhere.png", "03.png"])
def test_a_link_without_content_is_a_data_error(target: str, pairs: Path, site: Callable[..., Path]) -> None:
    """Also where the images were prepared before."""
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    own(home)
    (pairs / "images/03.png").unlink()
    (pairs / "images/03.png").symlink_to(target)
    with pytest.raises(
        DataError, match=r"images/03.png: (it does not exist|cannot be read \(.*symbolic)"
    ) as caught:
        own(home)
    assert "03" not in caught.value.public


def test_a_run_tells_whether_the_data_are_those_of_the_check(
    pairs: Path, site: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    check = load_tool("check_data").main

    def said(level: str) -> str:
        caplog.clear()
        with caplog.at_level("INFO", logger="mucald.data"):
            own(home)
        (record,) = [one for one in caplog.records if one.name.startswith("mucald.data")]
        assert record.levelname == level
        return record.message

    assert "were not checked yet" in said("WARNING")
    assert check([str(home / "site.json")]) == 0
    for _ in ("cached", "and again"):
        assert "the data are those of the check" in said("INFO")
    for path in pairs.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    assert "the data are those of the check" in said("INFO"), "a copy of the same files is no change"
    write_pair(pairs / "images/03.png", pairs / "masks/03.png", 77, top=255)
    for _ in ("read", "cached"):
        assert "have changed since they were checked" in said("WARNING")
    assert check([str(home / "site.json")]) == 0
    assert "the data are those of the check" in said("INFO")
    (home / "checked.json").write_text("{")
    assert "checked.json is not valid JSON" in said("WARNING")


def test_what_is_not_used_is_in_the_sites_log(
    pairs: Path, site: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    (pairs / "images/10.gif").touch()
    own(site(task="kvasir", root=str(pairs), layout="pairs"))
    assert "1 file of images/ is not read: 1 .gif" in caplog.text


def test_training_refuses_an_image_in_two_splits(pairs: Path, site: Callable[..., Path]) -> None:
    listed = {
        "training": [{"image": f"images/{n:02}.png", "label": f"masks/{n:02}.png"} for n in range(5)],
        "test": [{"image": "./images/../images/00.png", "label": "masks/00.png", "case": "x"}],
    }
    (pairs / "list.json").write_text(json.dumps(listed))
    home = site(task="kvasir", datalist=str(pairs / "list.json"))
    with pytest.raises(DataError, match="the same image in several splits") as caught:
        own(home)
    assert caught.value.public == "images of two splits are the same"
    assert load_tool("check_data").main([str(home / "site.json")]) == 1
    arguments = [str(home / "site.json"), "--out", str(home / "out.json")]
    assert load_tool("prepare_data").main(arguments) == 1
    assert not (home / "out.json").exists()


def test_too_few_images(pairs: Path, site: Callable[..., Path]) -> None:
    for index in range(2, 10):
        (pairs / f"images/{index:02}.png").unlink()
        (pairs / f"masks/{index:02}.png").unlink()
    with pytest.raises(DataError, match="2 found, at least 3 needed"):
        own(site(task="kvasir", root=str(pairs), layout="pairs"))
