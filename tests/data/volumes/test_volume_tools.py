"""Volumes written as phantoms, and a public set dealt out to sites."""

import json
import shutil
from itertools import combinations
from pathlib import Path

import pytest
from commands import load_tool
from volume_files import write_set

from mucald.commands.data import check, phantoms
from mucald.config.common import DataConfig, VolumeConfig, VolumePlan
from mucald.data.loading import load_site_data
from mucald.data.records.layouts import find_records
from mucald.data.records.splits import split_records
from mucald.data.site_file import read_site_file


@pytest.mark.parametrize("task", ["brain", "liver", "heart_pathology"])
def test_phantoms_of_volumes_are_a_set_that_can_be_trained_on(task: str, tmp_path: Path) -> None:
    for folder in ("first", "again"):
        assert phantoms.main(["--task", task, "--count", "5", "--out", str(tmp_path / folder)]) == 0
    files = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.nii.gz"))
    assert len(files) == 5 * {"brain": 5, "liver": 2, "heart_pathology": 1}[task]
    home = tmp_path / "home"
    home.mkdir()
    content = {"task": task, "root": str(tmp_path / "first"), "layout": "nnunet"}
    (home / "site.json").write_text(json.dumps(content))
    assert check.main([str(home / "site.json")]) == 0
    plan = VolumePlan((6.0, 6.0, 8.0), (16, 16, 16), (-160.0, 240.0, 40.0, 90.0) if task == "liver" else ())
    data = load_site_data("x", task, DataConfig(volumes=VolumeConfig(plans={task: plan})), 7, home)
    assert len(data.train) == 3
    shape = (16, 16, 16) if task == "heart_pathology" else (48, 48, 32)
    assert data.train.whole().inputs.shape[2:] == shape


def test_options_of_images_are_refused_for_volumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        phantoms.main(["--task", "heart", "--size", "64", "--out", str(tmp_path)])
    assert "are for images, and heart has volumes" in capsys.readouterr().err


def _splits(home: Path, site: str) -> dict[str, set[str]]:
    site_file = read_site_file(home / site / "site.json")
    found = split_records(find_records(site_file), site_file)
    return {split: {record.case for record in records} for split, records in found.items()}


def test_no_site_of_the_cardiac_set_trains_on_what_another_has_or_is_tested_on(tmp_path: Path) -> None:
    root = write_set(tmp_path / "sets/Dataset502_CardiacMR", "heart", cases=16)
    kinds = ("NOR", "DCM", "HCM", "MINF", "RV")
    rows = "".join(f"case_{n},{kinds[n % 5]}\n" for n in range(16))
    (root / "classes.csv").write_text(f"case,pathology\n{rows}")
    options = ["--train", "2", "--validation", "1", "--test", "4"]
    command = load_tool("cardiac").main
    assert command([str(tmp_path / "sets"), "--home", str(tmp_path / "home"), *options]) == 0
    sites = ("heart_a", "heart_b", "heart_c", "pathology")
    found = {site: _splits(tmp_path / "home", site) for site in sites}
    for own in found.values():
        assert [len(own[name]) for name in ("train", "validation", "test")] == [2, 1, 4]
    for one, other in combinations(sites, 2):
        assert found[one]["test"] == found[other]["test"]
        own = [found[site]["train"] | found[site]["validation"] for site in (one, other)]
        assert not own[0] & own[1]
        assert not own[0] & found[one]["test"]
    plan = VolumePlan((2.0, 2.0, 2.0), (8, 8, 8))
    for site, task in (("heart_b", "heart"), ("pathology", "heart_pathology")):
        config = DataConfig(volumes=VolumeConfig(plans={task: plan}))
        assert len(load_site_data(site, task, config, 7, tmp_path / "home" / site).test) == 4
    shutil.rmtree(root)
    assert command([str(tmp_path / "sets"), "--home", str(tmp_path / "other"), *options]) == 1
