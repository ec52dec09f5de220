"""Public sets dealt out to the sites of a consortium."""

import json
import shutil
from itertools import combinations
from pathlib import Path

import nibabel
import numpy as np
import pytest
from commands import load_tool
from image_files import write_pair

from mucald.data.records.layouts import find_records
from mucald.data.records.splits import split_records
from mucald.data.site_file import read_site_file
from mucald.privacy.policy import OPEN, read_policy

COUNTS = ("--train", "3", "--validation", "1", "--test", "4")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    for index in range(15):
        write_pair(
            folder / f"kvasir_seg/images/k{index}.png", folder / f"kvasir_seg/masks/k{index}.png", index
        )
        ham = folder / "ham10000"
        write_pair(
            ham / f"images/ISIC_{index}.png", ham / f"masks/ISIC_{index}_segmentation.png", index, top=255
        )
        for origin in ("d1", "d2"):
            name = f"{origin}_{index}.png"
            write_pair(folder / "wbc/images" / name, folder / "wbc/masks" / name, index)
        ct = folder / "Dataset501_CovidCT"
        for name, values in (("imagesTr/c{}_0000", np.arange(256.0)), ("labelsTr/c{}", np.arange(256) > 200)):
            path = ct / f"{name.format(index)}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values.reshape(16, 16, 1).astype(np.float32), np.eye(4)), path)
    (ct / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "infection": 1}}))
    return folder


def deal(sets: Path, home: Path, *options: str) -> int:
    return load_tool("consortium").main([str(sets), "--home", str(home), *options])


def splits_of(home: Path, site: str) -> dict[str, set[str]]:
    site_file = read_site_file(home / site / "site.json")
    found = split_records(find_records(site_file), site_file)
    return {split: {record.mask.name for record in records} for split, records in found.items()}


def test_sites_of_a_set_share_the_test_and_nothing_else(sets: Path, tmp_path: Path) -> None:
    assert deal(sets, tmp_path, *COUNTS) == 0
    sites = sorted(path.name for path in tmp_path.iterdir())
    assert sites == ["cells_a", "cells_b", "ct", "polyp_a", "polyp_b", "polyp_c", "skin_a", "skin_b"]
    found = {site: splits_of(tmp_path, site) for site in sites}
    for site, splits in found.items():
        own = (3, 1, 3) if site.startswith("polyp") else (3, 1, 4)
        assert tuple(len(splits[name]) for name in ("train", "validation", "test")) == own
        assert read_policy(tmp_path / site, "x") == OPEN
    for first, second in combinations([site for site in sites if site.startswith(("polyp", "skin"))], 2):
        alike = first.split("_")[0] == second.split("_")[0]
        assert (found[first]["test"] == found[second]["test"]) == alike
        everything = [set.union(*found[site].values()) for site in (first, second)]
        assert everything[0] & everything[1] == (found[first]["test"] if alike else set())
    assert all(name.startswith("d2_") for names in found["cells_b"].values() for name in names)


def test_the_same_images_go_to_the_same_sites(sets: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(sets, tmp_path / "elsewhere")
    for source, home in ((sets, "a"), (moved, "b")):
        assert deal(source, tmp_path / home, *COUNTS) == 0
    assert splits_of(tmp_path / "a", "skin_a") == splits_of(tmp_path / "b", "skin_a")


def test_too_few_images_and_wrong_numbers(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deal(sets, tmp_path / "used", *COUNTS) == 0
    for source, home, argument, message in (
        (sets, "few", ("--train", "5"), "polyp_a, polyp_b, polyp_c: 15 images leave none to test on"),
        (
            tmp_path / "none",
            "none",
            (),
            "none holds no kvasir_seg; it needs Dataset501_CovidCT, ham10000, kvasir_seg, wbc",
        ),
        (sets, "used", COUNTS, "exists; give another place, or --force"),
    ):
        assert deal(source, tmp_path / home, *argument) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert message in error


def test_where_a_set_is_wrong_no_site_is_written(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = shutil.copytree(sets, tmp_path / "part", ignore=shutil.ignore_patterns("wbc"))
    assert deal(part, tmp_path / "home", *COUNTS) == 1
    assert "part holds no wbc" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()
    assert deal(sets, tmp_path / "home", *COUNTS) == 0
