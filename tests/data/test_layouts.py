import json
from pathlib import Path
from typing import Any

import pytest

from mucald.data.layouts import Record, find_records
from mucald.data.site_file import SiteFile
from mucald.errors import DataError


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def find(root: Path, layout: str, task: str = "kvasir", **more: Any) -> list[Record]:
    return find_records(SiteFile(task=task, root=str(root), layout=layout, **more))


def test_pairs_match_by_stem_across_endings(tmp_path: Path) -> None:
    make(tmp_path, "i/b.JPG", "i/a.x.bmp", "m/b.png", "m/a.x.tif", "i/notes.txt", "m/._b.png")
    records = find(tmp_path, "pairs", images="i", masks="m")
    assert [r.case for r in records] == ["a.x", "b"]
    assert records[1] == Record((tmp_path / "i/b.JPG",), tmp_path / "m/b.png", "b", "train")


def test_isic(tmp_path: Path) -> None:
    make(tmp_path, "images/ISIC_0024473.jpg", "masks/ISIC_0024473_segmentation.png", "images/ATTRIBUTION.txt")
    (record,) = find(tmp_path, "isic", "ham10k")
    assert (record.case, record.mask.name) == ("ISIC_0024473", "ISIC_0024473_segmentation.png")


def test_hc18_keeps_frames_of_a_pregnancy_together(tmp_path: Path) -> None:
    for name in ("010_HC", "010_2HC", "011_HC"):
        make(tmp_path, f"training_set/{name}.png", f"training_set/{name}_Annotation.png")
    records = find(tmp_path, "hc18", "fetal_head")
    assert [(r.case, r.outline) for r in records] == [("010", True), ("010", True), ("011", True)]


def nnunet(root: Path, labels: dict[str, Any], ending: str = ".nii.gz") -> None:
    make(root, *(f"imagesTr/c1_{c:04}{ending}" for c in range(4)), f"labelsTr/c1{ending}")
    (root / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ending}))


@pytest.mark.parametrize("ending", [".nii.gz", ".png"])
def test_nnunet_takes_all_channels_and_the_file_ending(tmp_path: Path, ending: str) -> None:
    nnunet(tmp_path, {"background": 0, "infection": 1}, ending)
    (record,) = find(tmp_path, "nnunet", "mosmed")
    assert record.case == "c1"
    assert [path.name for path in record.images] == [f"c1_{c:04}{ending}" for c in range(4)]
    assert record.mask == tmp_path / f"labelsTr/c1{ending}"


def test_nnunet_labels_must_fit_the_task_or_be_mapped(tmp_path: Path) -> None:
    nnunet(tmp_path, {"background": 0, "lung": 1, "infection": 2})
    with pytest.raises(DataError, match=r"dataset.json: 'labels' must be the ids 0 to 1 of task mosmed"):
        find(tmp_path, "nnunet", "mosmed")
    assert len(find(tmp_path, "nnunet", "mosmed", mask_values={"1": 0, "2": 1})) == 1


def datalist(path: Path, content: Any) -> list[Record]:
    path.write_text(json.dumps(content))
    return find_records(SiteFile(task="kvasir", datalist=str(path)))


def test_datalist(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "c.png", "m.png")
    records = datalist(
        tmp_path / "list.json",
        {
            "training": [{"image": "a.png", "label": "m.png", "case": 7}],
            "validation": [{"image": ["b.png"], "label": "m.png"}],
            "testing": [{"image": str(tmp_path / "c.png"), "label": "m.png"}],
            "description": "other keys are ignored",
        },
    )
    assert [(r.case, r.split) for r in records[:2]] == [("7", "train"), ("b.png", "validation")]
    assert records[1].images == (tmp_path / "b.png",)
    assert records[2].split == "test"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image": "a.png", "label": "gone.png"}, r"training\[0\]: .*gone.png does not exist"),
        ({"image": "a.png"}, r"training\[0\] must have 'image' and 'label'"),
        ("a.png", r"training\[0\] must have 'image' and 'label'"),
    ],
)
def test_wrong_datalist_entries(tmp_path: Path, entry: Any, message: str) -> None:
    make(tmp_path, "a.png")
    with pytest.raises(DataError, match=message):
        datalist(tmp_path / "list.json", {"training": [entry]})


def test_empty_and_missing_datalist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images found"):
        datalist(tmp_path / "list.json", {"training": []})
    with pytest.raises(DataError, match=r"gone.json: configuration file not found"):
        find_records(SiteFile(task="kvasir", datalist=str(tmp_path / "gone.json")))


def test_case_pattern_groups_images(tmp_path: Path) -> None:
    make(tmp_path, *(f"{folder}/p{p}_{i}.png" for folder in ("images", "masks") for p in "12" for i in "ab"))
    assert [r.case for r in find(tmp_path, "pairs", case_pattern="^(p.)_")] == ["p1", "p1", "p2", "p2"]
    with pytest.raises(DataError, match="'case_pattern' does not match 'p1_a'"):
        find(tmp_path, "pairs", case_pattern="^(q.)_")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["images/a.png", "images/b.png", "masks/a.png"], "'b' has no mask; add it or remove the image"),
        (["images/a.png", "masks/a.png", "masks/b.png"], "'b' has no image; add it or remove the mask"),
        (["images/a.png", "images/a.jpg", "masks/a.png"], "a.jpg has the same name; remove one"),
        (["images/a.png"], "masks: no such folder"),
        (["images/a.txt", "masks/a.txt"], "no images found"),
    ],
)
def test_incomplete_sets(tmp_path: Path, files: list[str], message: str) -> None:
    make(tmp_path, *files)
    with pytest.raises(DataError, match=message) as caught:
        find(tmp_path, "pairs")
    assert "a.png" not in caught.value.public


def test_unknown_layout(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"unknown layout 'pair'; did you mean 'pairs'\? \(known: pairs, isic"
    ):
        find(tmp_path, "pair")


def test_missing_dataset_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset.json: configuration file not found"):
        find(tmp_path, "nnunet", "mosmed")
