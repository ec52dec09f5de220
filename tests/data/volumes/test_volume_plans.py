"""What a site's volumes need, as ``mucald check`` and ``mucald prepare`` tell it, against what a job says."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_files import save_nifti
from volume_files import affine, scene, write_set

from mucald.commands.data import check, prepare
from mucald.config.common import DataConfig, VolumeConfig, VolumePlan
from mucald.data.checked import compared
from mucald.data.loading import load_site_data
from mucald.data.site_file import SITE_FILE, SiteFile, read_site_file
from mucald.data.volumes.planning import lacking, plan_of, unlike
from mucald.data.volumes.survey import VolumeSurvey, survey_volumes
from mucald.errors import DataError
from mucald.methods.jobs import load_job

REPOSITORY = Path(__file__).parents[3]


def survey_of(root: Path, task: str = "liver") -> VolumeSurvey:
    return survey_volumes(SiteFile(task=task, root=str(root), layout="nnunet"))


def test_a_plan_has_the_median_spacing_and_a_patch_of_the_median_extent(tmp_path: Path) -> None:
    root = write_set(tmp_path, "heart", spacing=(2.0, 2.0, 8.0))
    for folder, which in (("imagesTr/case_0_0000", 0), ("labelsTr/case_0", 1)):
        save_nifti(tmp_path / f"{folder}.nii.gz", scene(0, 4)[which], affine((3, 3, 9)), sform_code=1)
    plan = plan_of(survey_of(root, "heart"), divisor=4)
    assert plan == VolumePlan(spacing=(2.0, 2.0, 8.0), patch_size=(12, 12, 8))
    assert plan_of(survey_of(root, "heart"), divisor=8).patch_size == (16, 16, 8)


def test_a_patch_too_large_is_cut_where_it_covers_most(tmp_path: Path) -> None:
    found = survey_of(write_set(tmp_path, "heart", shape=(40, 40, 12)), "heart")
    assert plan_of(found, 4, most_voxels=40 * 40 * 12).patch_size == (40, 40, 12)
    size = plan_of(found, 4, most_voxels=32 * 32 * 8).patch_size
    assert np.prod(size) <= 32 * 32 * 8
    assert all(n % 4 == 0 for n in size)
    assert plan_of(found, 16, most_voxels=1).patch_size == (16, 16, 16)


def test_intensities_of_ct_are_those_of_the_foreground(tmp_path: Path) -> None:
    low, high, mean, deviation = plan_of(survey_of(write_set(tmp_path, "liver")), 8).intensity
    # Two classes of 100 and 200 HU with a deviation of 5.
    assert low == pytest.approx(90, abs=6)
    assert high == pytest.approx(210, abs=6)
    assert mean == pytest.approx(150, abs=5)
    assert deviation == pytest.approx(50, abs=3)
    assert plan_of(survey_of(write_set(tmp_path / "mr", "heart"), "heart"), 8).intensity == ()


def test_what_a_job_lacks_and_where_it_fits_badly(tmp_path: Path) -> None:
    found = survey_of(write_set(tmp_path, "liver"))
    fits = plan_of(found, 4)
    assert lacking(found, fits, 4) == []
    assert unlike(found, VolumePlan(fits.spacing, (8, 8, 8), fits.intensity)) == []
    words = lacking(found, VolumePlan(patch_size=(8, 8, 6)), 4)
    assert [word.split(" ")[-1] for word in words[:2]] == [
        "data.volumes.plans.liver.spacing",
        "data.volumes.plans.liver.intensity",
    ]
    assert words[2] == "the job's patch size 8 x 8 x 6 has the side 6, no multiple of 4"
    spacing, intensity, size = unlike(found, VolumePlan((5.0, 2.0, 2.0), (12, 8, 8), (0.0, 150.0, 0.0, 1.0)))
    assert "spacing is 5 x 2 x 2 mm, the median here 2 x 2 x 2 mm: along an axis one is 2.5 times" in spacing
    assert "50% of the foreground lies outside the job's intensities, 0 to 150" in intensity
    assert "5 of 5 volumes are less than half the patch 12 x 8 x 8 along an axis" in size


def test_a_class_that_never_occurs_is_remarked(tmp_path: Path) -> None:
    root = write_set(tmp_path, "liver")
    for path in (root / "labelsTr").iterdir():
        save_nifti(path, np.minimum(scene(int(path.name[5]), 3)[1], 1), affine(), sform_code=1)
    assert survey_of(root).remarks == ["no mask holds tumour"]
    ill = write_set(tmp_path / "ill", "heart_pathology", cases=4)
    assert survey_of(ill, "heart_pathology").remarks == ["no case is RV"]


def test_an_empty_mask_says_nothing_of_intensities_and_empty_masks_alone_give_none(tmp_path: Path) -> None:
    root = write_set(tmp_path, "liver")
    before = plan_of(survey_of(root), 8).intensity
    save_nifti(root / "labelsTr/case_0.nii.gz", np.zeros((12, 10, 8), np.uint8), affine(), sform_code=1)
    assert plan_of(survey_of(root), 8).intensity == pytest.approx(before, abs=6)
    for path in (root / "labelsTr").iterdir():
        save_nifti(path, np.zeros((12, 10, 8), np.uint8), affine(), sform_code=1)
    with pytest.raises(DataError, match="no mask holds a class but the background"):
        plan_of(survey_of(root), 8)


def test_check_lists_every_fault_and_keeps_the_fingerprint_that_runs_compare(
    tmp_path: Path, site: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    home = site(task="heart", root=str(write_set(tmp_path / "set", "heart")), layout="nnunet")
    assert check.main([str(home / SITE_FILE), "--out", str(tmp_path / "out")]) == 0
    assert "Volumes of task heart" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out/files.csv").open(encoding="utf-8")))
    assert len(rows) == 5
    assert rows[0]["spacing in mm"] == "2 x 2 x 2"
    assert rows[0]["right ventricle, voxels"] == "36"
    site_file = read_site_file(home / SITE_FILE)
    assert compared(home, survey_volumes(site_file).seen.fingerprint("heart"))[0]
    for index in (0, 1):
        image = np.full((12, 10, 8), np.nan, np.float32)
        save_nifti(tmp_path / f"set/imagesTr/case_{index}_0000.nii.gz", image, affine(), sform_code=1)
    assert check.main([str(home / SITE_FILE)]) == 1
    said = capsys.readouterr().out
    assert said.count("960 of its voxels are NaN or infinite") == 2


def test_a_run_knows_that_its_volumes_are_those_of_the_check(
    tmp_path: Path, site: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    home = site(task="heart", root=str(write_set(tmp_path / "set", "heart")), layout="nnunet")
    assert check.main([str(home / SITE_FILE)]) == 0
    with caplog.at_level("INFO"):
        data = DataConfig(volumes=VolumeConfig(plans={"heart": VolumePlan(spacing=(2.0, 2.0, 2.0))}))
        load_site_data("x", "heart", data, 7, home)
    assert "the data are those of the check" in caplog.text


def test_prepare_tells_the_plan_and_judges_a_job(
    tmp_path: Path, site: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    home = site(task="heart", root=str(write_set(tmp_path / "set", "heart")), layout="nnunet")
    assert prepare.main([str(home / SITE_FILE), "--divisible-by", "4"]) == 0
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if "data.volumes.plans" in line)
    plans = json.loads("{" + line.strip() + "}")
    assert plans == {"data.volumes.plans": {"heart": {"spacing": [2.0, 2.0, 2.0], "patch_size": [12, 12, 8]}}}
    job = tmp_path / "job"
    shutil.copytree(REPOSITORY / "jobs/fedavg", job)
    assert prepare.main([str(home / SITE_FILE), "--job", str(job)]) == 1
    assert "fault: the job does not say data.volumes.plans.heart.spacing" in capsys.readouterr().out
    path = job / "app/config/mucald.json"
    content = json.loads(path.read_text())
    content.setdefault("set", {})["data.volumes.plans"] = {
        "heart": {"spacing": [2, 2, 2], "patch_size": [8] * 3}
    }
    path.write_text(json.dumps(content))
    assert load_job(job)[0].data.volumes.plan("heart").patch_size == (8, 8, 8)
    assert prepare.main([str(home / SITE_FILE), "--job", str(job), "--divisible-by", "4"]) == 0
    assert "the job 'fedavg' fits these volumes" in capsys.readouterr().out


def test_a_list_of_a_set_with_regions_comes_with_the_values_that_it_needs(
    tmp_path: Path, site: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    regions = {"background": 0, "whole": [1, 2, 3], "core": [1, 3], "enhancing": 3}
    root = write_set(tmp_path / "set", "brain", labels=regions, regions_class_order=[1, 2, 3])
    home = site(task="brain", root=str(root), layout="nnunet")
    assert prepare.main([str(home / SITE_FILE), "--out", str(home / "list.json")]) == 0
    assert 'and "mask_values": {"0": 0, "1": 2, "2": 1, "3": 3}' in capsys.readouterr().out


def test_a_picture_task_takes_no_job(
    pairs: Path, site: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    with pytest.raises(SystemExit):
        prepare.main([str(home / SITE_FILE)])
    assert "--out is required" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        prepare.main([str(home / SITE_FILE), "--job", "jobs/fedavg"])
    assert "are for volumes, and kvasir has images" in capsys.readouterr().err


@pytest.mark.parametrize("whole", [False, True])
def test_a_site_proposes_its_plan_and_another_compares(
    whole: bool, tmp_path: Path, site: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    home = site(task="heart", root=str(write_set(tmp_path / "set", "heart")), layout="nnunet")
    job = tmp_path / "job"
    shutil.copytree(REPOSITORY / "jobs/fedavg", job)
    path = job / "app/config/mucald.json"
    if whole:
        path.write_text(json.dumps(load_job(job)[0].to_dict()))
    options = [str(home / SITE_FILE), "--job", str(job), "--divisible-by", "4"]
    assert prepare.main(options) == 1
    assert prepare.main([*options, "--propose"]) == 0
    assert load_job(job)[0].data.volumes.plan("heart") == VolumePlan((2.0, 2.0, 2.0), (12, 12, 8))
    other = write_set(tmp_path / "other", "liver", spacing=(5.0, 5.0, 5.0))
    (home / SITE_FILE).write_text(json.dumps({"task": "liver", "root": str(other), "layout": "nnunet"}))
    assert prepare.main([*options, "--propose"]) == 0
    assert load_job(job)[0].data.volumes.plans.keys() == {"heart", "liver"}
    coarse = write_set(tmp_path / "coarse", "heart", spacing=(6.0, 6.0, 6.0))
    (home / SITE_FILE).write_text(json.dumps({"task": "heart", "root": str(coarse), "layout": "nnunet"}))
    capsys.readouterr()
    assert prepare.main(options) == 0
    assert "along an axis one is 3 times the other" in capsys.readouterr().out
