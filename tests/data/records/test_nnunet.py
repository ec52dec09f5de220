"""Sets in nnU-Net's raw layout: what ``dataset.json`` tells fits the files and the task, or is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from image_files import touch

from mucald.data.records.layouts import Record, find_records, find_set
from mucald.data.site_file import SiteFile
from mucald.errors import DataError


def find(root: Path, task: str = "kvasir", **more: Any) -> list[Record]:
    return find_records(SiteFile(task=task, root=str(root), layout="nnunet", **more))


def nnunet(root: Path, labels: dict[str, Any], ending: str = ".nii.gz") -> None:
    touch(root, *(f"imagesTr/c1_{c:04}{ending}" for c in range(4)), f"labelsTr/c1{ending}")
    (root / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ending}))


@pytest.mark.parametrize("ending", [".nii.gz", ".png"])
def test_nnunet_takes_all_channels_and_the_file_ending(tmp_path: Path, ending: str) -> None:
    nnunet(tmp_path, {"background": 0, "infection": 1}, ending)
    (record,) = find(tmp_path, "mosmed")
    assert record.case == "c1"
    assert [path.name for path in record.images] == [f"c1_{c:04}{ending}" for c in range(4)]
    assert record.mask == tmp_path / f"labelsTr/c1{ending}"


def test_nnunet_labels_must_fit_the_task_or_be_mapped(tmp_path: Path) -> None:
    nnunet(tmp_path, {"background": 0, "lung": 1, "infection": 2})
    with pytest.raises(DataError, match=r"dataset.json: 'labels' must be the ids 0 to 1 of task mosmed"):
        find(tmp_path, "mosmed")
    assert len(find(tmp_path, "mosmed", mask_values={"1": 0, "2": 1})) == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"0": "background", "1": "infection"}, None),
        ({"background": 0, "infection": [1, 2]}, "must be the ids 0 to 1"),
        ({"background": 0, "infection": "1"}, "must be the ids 0 to 1"),
        ({"background": 0, "infection": True}, "must be the ids 0 to 1"),
        ({"0": ["background"], "1": ["infection"]}, "must be the ids 0 to 1"),
        (["background", "infection"], None),
        (["infection", "background"], "'infection' is 0"),
        (["background", ["infection"]], "must be the ids 0 to 1"),
        ({"background": 0, "a": 1, "b": 1}, "must be the ids 0 to 1"),
        (None, "must be the ids 0 to 1"),
        (
            {"infection": 0, "background": 1},
            r"'infection' is 0 in 'labels' and 1 in.*\{\"0\": 1\}",
        ),
        ({"0": "Infection", "1": "rest"}, "'Infection' is 0"),
    ],
)
def test_labels_of_either_nnunet_are_read_or_named(labels: Any, message: str | None, tmp_path: Path) -> None:
    nnunet(tmp_path, labels)
    if message is None:
        assert len(find(tmp_path, "mosmed")) == 1
        return
    with pytest.raises(DataError, match=message):
        find(tmp_path, "mosmed")


@pytest.mark.parametrize(
    "told", [{"channel_names": {"0": "CT", "1": "PET"}}, {"modality": {"0": "CT", "1": "PET"}}, {}]
)
def test_a_case_that_lacks_a_channel_is_named(told: dict[str, Any], tmp_path: Path) -> None:
    for case in ("a", "b"):
        touch(tmp_path, *(f"imagesTr/{case}_{c:04}.nii.gz" for c in range(2)), f"labelsTr/{case}.nii.gz")
    labels = {"labels": {"background": 0, "infection": 1}} | told
    (tmp_path / "dataset.json").write_text(json.dumps(labels))
    assert len(find(tmp_path, "mosmed")) == 2
    (tmp_path / "imagesTr/b_0000.nii.gz").unlink()
    with pytest.raises(DataError, match=r"dataset.json: case 'b' has the channels 0001, but .* 0000, 0001"):
        find(tmp_path, "mosmed")


def described(root: Path, **content: Any) -> SiteFile:
    labels = {"labels": {"background": 0, "polyp": 1}, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(labels | content))
    return SiteFile(task="kvasir", root=str(root), layout="nnunet")


RGB = {"0": "R", "1": "G", "2": "B"}


def test_a_colour_picture_in_one_file_has_three_channel_names(tmp_path: Path) -> None:
    touch(tmp_path, *(f"imagesTr/{case}_0000.png" for case in "ab"), "labelsTr/a.png", "labelsTr/b.png")
    records = find_records(described(tmp_path, channel_names=RGB))
    assert [(len(record.images), record.colour) for record in records] == [(1, True)] * 2
    assert not find_records(described(tmp_path, channel_names={"0": "grey"}))[0].colour
    touch(tmp_path, "imagesTr/a_0001.png")
    with pytest.raises(DataError, match=rf"{tmp_path}/dataset.json: case 'a' has the channels 0000, 0001"):
        find_records(described(tmp_path, channel_names=RGB))
    touch(tmp_path / "ct", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(DataError, match="its channel_names are for 0000, 0001, 0002"):
        find_records(described(tmp_path / "ct", channel_names=RGB, file_ending=".nii.gz"))


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("png", "must be one of .png, .*, not 'png'; did you mean '.png'"),
        (5, "must be one of .png, .*, not 5$"),
        (".mha", "must be one of .*, not '.mha'$"),
        ([".png"], "must be one of"),
        (None, "must be one of"),
        ("", "must be one of"),
    ],
)
def test_a_file_ending_that_is_none_is_named(ending: Any, words: str, tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.png", "labelsTr/a.png")
    with pytest.raises(DataError, match=f"{tmp_path}/dataset.json: 'file_ending' {words}"):
        find_records(described(tmp_path, file_ending=ending))


def test_cases_that_dataset_json_lists_itself_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.png", "labelsTr/a.png")
    listed = {"a": {"images": ["imagesTr/a_0000.png"], "label": "labelsTr/a.png"}}
    with pytest.raises(DataError, match=r"dataset.json: 'dataset' lists the cases, which is not read"):
        find_records(described(tmp_path, dataset=listed))


def test_a_label_of_another_name_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.png", "labelsTr/a.png")
    site_file = described(tmp_path, labels={"background": 0, "kidney": 1})
    taken = "'kidney' (1 in 'labels') is taken for 'polyp' of task kvasir"
    assert find_set(site_file).unused == [f"{tmp_path}/dataset.json: {taken}"]
    listed = {
        "labels": {"0": "background", "1": "kidney", "2": "liver"},
        "training": [{"image": "a.png", "label": "m.png"}],
    }
    touch(tmp_path, "list/a.png", "list/m.png")
    (tmp_path / "list/list.json").write_text(json.dumps(listed))
    site_file = SiteFile(task="kvasir", datalist=str(tmp_path / "list/list.json"))
    assert find_set(site_file).unused == [f"{tmp_path}/list/list.json: {taken}"]


def test_images_without_masks_are_counted_where_a_layout_has_them(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.png", "labelsTr/a.png", "imagesTs/b_0000.png", "imagesTs/c_0000.png")
    touch(tmp_path, "labelsTs/b.png", "nnUNetPlans.json", "other/x.png")
    assert find_set(described(tmp_path)).unused == [
        "2 files of imagesTs/ are not read: 2 .png",
        "1 file of labelsTs/ is not read: 1 .png",
    ]
    touch(tmp_path, "training_set/1_HC.png", "training_set/1_HC_Annotation.png", "test_set/2_HC.png")
    site_file = SiteFile(task="fetal_head", root=str(tmp_path), layout="hc18")
    assert find_set(site_file).unused == ["1 file of test_set/ is not read: 1 .png"]


def test_channels_and_files_that_are_not_read_are_said(tmp_path: Path) -> None:
    nnunet(tmp_path, {"background": 0, "infection": 1})
    content = json.loads((tmp_path / "dataset.json").read_text()) | {"numTraining": 5}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    touch(tmp_path, "imagesTr/c2.nii.gz", "labelsTr/c2.mha")
    assert find_set(SiteFile(task="mosmed", root=str(tmp_path), layout="nnunet")).unused == [
        "1 file of imagesTr/ is not read: 1 .nii.gz",
        "1 file of labelsTr/ is not read: 1 .mha",
        f"{tmp_path}/dataset.json tells 5 training cases; 1 is there and read",
        "1 image has more than three channels, of which the first three are read",
    ]


def test_a_list_of_other_cases_than_those_of_the_folders_is_said(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"{name}.png" for case in "ab" for name in (f"imagesTr/{case}_0000", f"labelsTr/{case}"))
    )
    listed = [{"image": "./imagesTr/a.png", "label": "./labelsTr/a.png"}]
    words = f"{tmp_path}/dataset.json tells 1 training cases; 2 are there and read"
    assert find_set(described(tmp_path, training=listed)).unused == [words]
    assert find_set(described(tmp_path, training=listed * 2)).unused == []


def test_missing_dataset_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset.json: configuration file not found"):
        find(tmp_path, "mosmed")
