"""A site's own volumes: from nnU-Net's folders to what networks take, with its cache and its refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from image_files import save_nifti
from volume_files import SHAPE, affine, scene, write_set

from mucald.config.common import DataConfig, VolumeConfig, VolumePlan
from mucald.data.loading import load_site_data, loader_of
from mucald.data.records.layouts import find_records
from mucald.data.site_data import SiteData
from mucald.data.site_file import SITE_FILE, SiteFile, read_site_file
from mucald.errors import ConfigError, DataError
from mucald.tasks import get_task

CT = (-50.0, 250.0, 100.0, 50.0)


def load(
    home: Path,
    task: str,
    spacing: tuple[float, ...] = (2.0, 2.0, 2.0),
    size: tuple[int, ...] = (8, 8, 8),
    intensity: tuple[float, ...] = (),
) -> SiteData:
    plan = VolumePlan(spacing=spacing, patch_size=size, intensity=intensity)
    return load_site_data("x", task, DataConfig(volumes=VolumeConfig(plans={task: plan})), 7, home)


def classes_of(data: SiteData) -> list[int]:
    splits = (data.train, data.validation, data.test)
    return [int(label) for split in splits for label in split.whole().targets]


@pytest.fixture
def home(tmp_path: Path, site: Callable[..., Path]) -> Callable[..., Path]:
    def make(task: str, more: dict[str, Any] | None = None, **description: Any) -> Path:
        root = write_set(tmp_path / "set", task, **description)
        return site(task=task, root=str(root), layout="nnunet", **(more or {}))

    return make


def test_volumes_and_masks_as_networks_take_them(home: Callable[..., Path]) -> None:
    data = load(home("heart"), "heart")
    assert data.source == "own volumes (nnunet)"
    assert [len(split) for split in (data.train, data.validation, data.test)] == [3, 1, 1]
    batch = data.train.whole()
    assert batch.inputs.shape == (3, 1, *SHAPE)
    assert batch.inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert batch.inputs[0].std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert set(batch.targets.unique().tolist()) == {0, 1, 2, 3}
    means = [float(batch.inputs[:, 0][batch.targets == label].mean()) for label in range(4)]
    assert means == sorted(means)


def test_four_channels_and_ct_by_the_plan(home: Callable[..., Path], tmp_path: Path) -> None:
    assert load(home("brain"), "brain").train.whole().inputs.shape == (3, 4, *SHAPE)
    write_set(tmp_path / "ct", "liver")
    (tmp_path / "home/site.json").write_text(
        json.dumps({"task": "liver", "root": str(tmp_path / "ct"), "layout": "nnunet"})
    )
    inputs = load(tmp_path / "home", "liver", intensity=CT).train.whole().inputs
    assert inputs.min() >= -3
    assert inputs.max() <= 3
    # 100 HU of the first class is the mean that the plan takes off.
    liver = load(tmp_path / "home", "liver", intensity=CT).train.whole().targets[:, None] == 1
    assert inputs[liver].mean() == pytest.approx(0, abs=0.1)


def test_they_are_resampled_to_the_plan(home: Callable[..., Path]) -> None:
    own = home("heart", spacing=(2.0, 2.0, 8.0))
    assert load(own, "heart", spacing=(4.0, 4.0, 8.0)).train.batch([0]).inputs.shape[2:] == (6, 5, 8)
    same, fine = (
        load(own, "heart", spacing=spacing).train.batch([0]) for spacing in ((2, 2, 8.0), (1, 1, 4.0))
    )
    assert fine.inputs.shape[2:] == (24, 20, 16)
    for label in range(4):
        inside = fine.targets == label
        assert float(inside.float().mean()) == pytest.approx(
            float((same.targets == label).float().mean()), rel=0.1
        )
        means = [float(b.inputs[:, 0][b.targets == label].mean()) for b in (same, fine)]
        assert means[1] == pytest.approx(means[0], abs=0.6)


@pytest.mark.parametrize("axes", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_axes_are_turned_to_right_anterior_superior(
    tmp_path: Path, site: Callable[..., Path], axes: tuple[int, ...], order: tuple[int, ...]
) -> None:
    root = write_set(tmp_path / "set", "heart", spacing=(2.0, 3.0, 4.0))
    turned = write_set(tmp_path / "turned", "heart", spacing=(2.0, 3.0, 4.0))
    for path in turned.glob("*Tr/*.nii.gz"):
        image = nibabel.load(path)
        change = np.array([[order[axis], axes[axis]] for axis in range(3)])
        # The mask keeps its own axes; its header tells how it lies on the image.
        if path.parent.name == "imagesTr":
            nibabel.save(image.as_reoriented(change), path)
    spacing = (2.0, 3.0, 4.0)
    upright = load(site(task="heart", root=str(root), layout="nnunet"), "heart", spacing).train.whole()
    other = load(site(task="heart", root=str(turned), layout="nnunet"), "heart", spacing).train.whole()
    assert torch.equal(upright.inputs, other.inputs)
    assert torch.equal(upright.targets, other.targets)


def test_classes_by_dataset_json_or_by_a_table(home: Callable[..., Path], tmp_path: Path) -> None:
    data = load(home("heart_pathology", cases=6), "heart_pathology", size=(8, 8, 16))
    assert data.train.whole().inputs.shape[1:] == (1, 8, 8, 16)
    told = [
        int(label) for split in (data.train, data.validation, data.test) for label in split.whole().targets
    ]
    assert sorted(told) == [0, 0, 1, 2, 3, 4]
    description = json.loads((tmp_path / "set/dataset.json").read_text())
    del description["classes"]
    (tmp_path / "set/dataset.json").write_text(json.dumps(description))
    rows = "".join(f"case_{n},{'rv' if n else 'NOR'}\n" for n in range(6))
    (tmp_path / "set/classes.csv").write_text(f"case,pathology\n{rows}")
    data = load(tmp_path / "home", "heart_pathology")
    told = [
        int(label) for split in (data.train, data.validation, data.test) for label in split.whole().targets
    ]
    assert sorted(told) == [0, 4, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (None, r"classes.csv: it does not exist; a task of classes needs a table"),
        ("case,pathology\ncase_0,NOR\n", r"tells no class of 'case_1'"),
        (
            "case,pathology\ncase_0,dilated\n",
            r"'dilated' is no class of task heart_path.*known: NOR, DCM",
        ),
        ("case,a,b\ncase_0,NOR,1\n", r"must have the columns 'case' and 'class' \(it has case, a, b\)"),
        ("case,class\ncase_0,NOR\ncase_0,RV\n", r"tells a case a second class"),
    ],
)
def test_a_table_of_classes_that_does_not_fit(
    home: Callable[..., Path], tmp_path: Path, table: str | None, message: str
) -> None:
    own = home("heart_pathology", classes=None)
    if table is not None:
        (tmp_path / "set/classes.csv").write_text(table)
    with pytest.raises(DataError, match=message) as caught:
        load(own, "heart_pathology")
    assert "case_" not in caught.value.public


def test_regions_become_classes_of_which_the_last_wins(home: Callable[..., Path], tmp_path: Path) -> None:
    regions = {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    own = home("brain", labels=regions, regions_class_order=[1, 2, 3])
    data = load(own, "brain")
    plain = [scene(index, 4)[1] for index in range(5)]
    assert sorted(np.bincount(mask.ravel()).tolist() for mask in plain) == sorted(
        torch.bincount(mask.flatten()).tolist()
        for split in (data.train, data.validation, data.test)
        for mask in split.whole().targets
    )
    # Of BraTS 2021: 1 is the necrotic core, 2 oedema, 4 enhancing; here 3.
    regions = {"background": 0, "whole tumour": [1, 2, 3], "core": [1, 3], "enhancing": 3}
    (tmp_path / "set/dataset.json").write_text(
        json.dumps(
            {
                "labels": regions,
                "regions_class_order": [1, 2, 3],
                "channel_names": dict.fromkeys("0123", "MR"),
                "file_ending": ".nii.gz",
            }
        )
    )
    sizes = torch.bincount(load(own, "brain").train.whole().targets.flatten())
    again = torch.bincount(data.train.whole().targets.flatten())
    assert sizes[[1, 2, 3]].tolist() == again[[2, 1, 3]].tolist()


@pytest.mark.parametrize(
    ("labels", "order", "message"),
    [
        ({"background": 0, "whole": [1, 2], "core": 2}, [1, 2], "must tell 3 regions"),
        (
            {"background": 0, "a": [1], "b": [1, 2], "c": [3]},
            [1, 2, 3],
            "after 'oedema' hold all of it",
        ),
        ({"background": 0, "a": ["1"], "b": [2], "c": [3]}, [1, 2, 3], "a region is a list of numbers"),
    ],
)
def test_regions_that_are_not_the_tasks(
    home: Callable[..., Path], labels: dict[str, Any], order: list[int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load(home("brain", labels=labels, regions_class_order=order), "brain")


def test_preset_cases_validate(home: Callable[..., Path]) -> None:
    own = home("heart", cases=6, preset_validation=["case_1", "case_4"])
    data = load(own, "heart")
    assert [len(split) for split in (data.train, data.validation, data.test)] == [3, 2, 1]
    labels = [torch.from_numpy(scene(index, 4)[1]).long() for index in (1, 4)]
    assert all(torch.equal(*pair) for pair in zip(data.validation.whole().targets, labels, strict=True))
    with pytest.raises(DataError, match="'preset_validation' must name cases of imagesTr/, not 'case_9'"):
        load(home("heart", preset_validation=["case_9"]), "heart")


def test_the_cache_is_a_file_per_case_and_follows_plan_and_files(
    home: Callable[..., Path], tmp_path: Path
) -> None:
    own = home("heart")
    first = load(own, "heart").train.whole().inputs
    kept = sorted((own / "cache").iterdir())
    assert len(kept) == 5
    assert oct(kept[0].stat().st_mode)[-3:] == "600"
    times = [path.stat().st_mtime_ns for path in kept]
    assert torch.equal(load(own, "heart").train.whole().inputs, first)
    assert [path.stat().st_mtime_ns for path in sorted((own / "cache").iterdir())] == times
    load(own, "heart", spacing=(4.0, 4.0, 4.0))
    assert len(others := sorted((own / "cache").iterdir())) == 5
    assert not set(others) & set(kept)
    case = tmp_path / "set/imagesTr/case_0_0000.nii.gz"
    save_nifti(case, scene(9, 4)[0], affine(), sform_code=1)
    load(own, "heart", spacing=(4.0, 4.0, 4.0))
    assert len(set((own / "cache").iterdir()) & set(others)) == 4


def test_volumes_of_a_site_may_differ_in_size(home: Callable[..., Path], tmp_path: Path) -> None:
    own = home("heart")
    for folder, which in (("imagesTr/case_0_0000", 0), ("labelsTr/case_0", 1)):
        array = scene(0, 4, (16, 10, 8))[which]
        save_nifti(tmp_path / f"set/{folder}.nii.gz", array, affine(), sform_code=1)
    data = load(own, "heart")
    splits = (data.train, data.validation, data.test)
    assert sorted(
        tuple(split.batch([row]).inputs.shape) for split in splits for row in range(len(split))
    ) == [
        *[(1, 1, *SHAPE)] * 4,
        (1, 1, 16, 10, 8),
    ]


def test_a_job_without_a_plan_is_refused_with_the_command_that_tells_one(home: Callable[..., Path]) -> None:
    own = home("liver")
    with pytest.raises(ConfigError, match=r"data.volumes.plans.liver.spacing.*mucald prepare"):
        load_site_data("x", "liver", DataConfig(), 7, own)
    with pytest.raises(ConfigError, match=r"data.volumes.plans.liver.intensity"):
        load(own, "liver")


def _nan(path: Path) -> None:
    image = scene(0, 4)[0]
    image[0, 0, :3] = np.nan
    save_nifti(path, image, affine(), sform_code=1)


def _beyond_float32(path: Path) -> None:
    image = scene(0, 4)[0].astype(np.float64)
    image[0, 0, :2] = 1e300
    save_nifti(path, image, affine(), sform_code=1)


def _four(path: Path) -> None:
    save_nifti(path, np.zeros((*SHAPE, 2), np.float32), affine(), sform_code=1)


def _sheared(path: Path) -> None:
    skewed = affine()
    skewed[0, 1] = 1.0
    save_nifti(path, scene(0, 4)[0], skewed, sform_code=1, pixdim=[1, 2, np.sqrt(5), 2, 0, 0, 0, 0])


def _unlike_spacing(path: Path) -> None:
    save_nifti(path, scene(0, 4)[0], affine((2.0, 2.0, 2.5)), sform_code=1)


def _no_spacing(path: Path) -> None:
    save_nifti(path, scene(0, 4)[0], np.eye(4), sform_code=0, qform_code=0)


def _other_size(path: Path) -> None:
    save_nifti(path, scene(0, 4, (12, 10, 9))[0], affine(), sform_code=1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_nan, "case_0_0000.nii.gz: 3 of its voxels are NaN or infinite"),
        (_beyond_float32, "case_0_0000.nii.gz: 2 of its voxels lie beyond 3.4e.38, more than float32 holds"),
        (_four, "case_0_0000.nii.gz: has the shape .*one file per channel"),
        (_sheared, r"case_0_0000.nii.gz: its axes stand at 63.4 degrees to each other instead of 90"),
        (_unlike_spacing, "case_0.nii.gz: does not lie over case_0_0000.nii.gz: its voxels are 2 x 2 x 2 mm"),
        (_no_spacing, "case_0_0000.nii.gz: its header tells no size of a voxel"),
        (_other_size, "case_0.nii.gz: does not lie over .*has 12 x 10 x 8 voxels, not 12 x 10 x 9"),
    ],
)
def test_volumes_that_cannot_be_used_are_named(
    home: Callable[..., Path], tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    own = home("heart")
    spoil(tmp_path / "set/imagesTr/case_0_0000.nii.gz")
    with pytest.raises(DataError, match=message) as caught:
        load(own, "heart")
    assert "case_0" not in caught.value.public
    with pytest.raises(DataError, match=message):
        loader_of(get_task("heart")).check(read_site_file(own / SITE_FILE), get_task("heart"))


def test_channels_that_do_not_fit_the_modality(home: Callable[..., Path], tmp_path: Path) -> None:
    own = home("brain")
    (own / "site.json").write_text(
        json.dumps(
            {"task": "heart", "root": str(tmp_path / "set"), "layout": "nnunet", "mask_values": {"0": 0}}
        )
    )
    with pytest.raises(DataError, match=r"has 4 file\(s\), but task heart takes 1 channel\(s\) of MR"):
        load(own, "heart")


@pytest.mark.parametrize(
    ("task", "told", "message"),
    [
        ("heart", {"channel_names": {"0": "CT"}}, "'channel_names' calls channel 0 'CT', .* heart takes MR;"),
        (
            "heart",
            {"channel_names": None, "modality": {"0": "CT scan"}},
            "'modality' calls channel 0 'CT scan'",
        ),
        ("liver", {"channel_names": {"0": "MRI"}}, "calls channel 0 'MRI', but task liver takes CT"),
        ("liver", {"channel_names": ["T1w"]}, "calls channel 0 'T1w', but task liver takes CT"),
        ("heart", {"channel_names": {"0": "cine MRI"}}, None),
        ("heart", {"channel_names": {"0": "sequence of another name"}}, None),
        ("heart", {"channel_names": {"0": "MR from CT"}}, None),
        ("liver", {"channel_names": {"0": "ct_1"}}, None),
    ],
)
def test_a_set_of_another_modality_is_refused(
    home: Callable[..., Path], tmp_path: Path, task: str, told: dict[str, Any], message: str | None
) -> None:
    own = home(task, **told)
    entries = [
        {"image": f"imagesTr/case_{n}_0000.nii.gz", "label": f"labelsTr/case_{n}.nii.gz"} for n in range(5)
    ]
    (tmp_path / "set/list.json").write_text(json.dumps({"training": entries} | told))
    listed = SiteFile(task=task, datalist=str(tmp_path / "set/list.json"))
    if message is None:
        assert len(find_records(read_site_file(own / SITE_FILE))) == len(find_records(listed)) == 5
        return
    for site_file in (read_site_file(own / SITE_FILE), listed):
        with pytest.raises(DataError, match=message) as caught:
            find_records(site_file)
        assert caught.value.public == "volumes are of another modality than their task"


def test_one_case_only(home: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"no case is left for the split .*at least 3 needed"):
        load(home("heart", cases=1), "heart")


def test_a_copy_in_two_splits_is_found(home: Callable[..., Path], tmp_path: Path) -> None:
    own = home("heart")
    image = (tmp_path / "set/imagesTr/case_0_0000.nii.gz").read_bytes()
    for index in range(5):
        (tmp_path / f"set/imagesTr/case_{index}_0000.nii.gz").write_bytes(image)
    with pytest.raises(DataError, match="the same image in several splits"):
        load(own, "heart")


def test_a_list_names_channels_and_classes(tmp_path: Path, site: Callable[..., Path]) -> None:
    root = write_set(tmp_path / "set", "brain")
    entries = [
        {
            "image": [f"imagesTr/case_{n}_{c:04}.nii.gz" for c in range(4)],
            "label": f"labelsTr/case_{n}.nii.gz",
            "case": n,
        }
        for n in range(5)
    ]
    (root / "list.json").write_text(json.dumps({"training": entries}))
    data = load(site(task="brain", datalist=str(root / "list.json")), "brain")
    assert data.train.whole().inputs.shape == (3, 4, *SHAPE)
    write_set(tmp_path / "ill", "heart_pathology")
    classes = ["NOR", 1, "hcm", "4", "RV"]
    listed = [{"image": f"imagesTr/case_{n}_0000.nii.gz", "label": classes[n]} for n in range(5)]
    (tmp_path / "ill/list.json").write_text(json.dumps({"training": listed}))
    data = load(site(task="heart_pathology", datalist=str(tmp_path / "ill/list.json")), "heart_pathology")
    told = classes_of(data)
    assert sorted(told) == [0, 1, 2, 4, 4]
    listed[1]["label"] = 7
    (tmp_path / "ill/list.json").write_text(json.dumps({"training": listed}))
    with pytest.raises(DataError, match=r"training\[1\]: 7 is no class of task heart_pathology"):
        load(tmp_path / "home", "heart_pathology")
