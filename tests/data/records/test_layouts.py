import json
from pathlib import Path
from typing import Any

import pytest
from image_files import touch

from mucald.data.records.layouts import Record, find_records, find_set
from mucald.data.site_file import SiteFile, read_site_file
from mucald.errors import DataError

FILES = {"image": "image", "label": "mask"}
ENTRY = {"image": "a.png", "label": "m.png"}


def find(root: Path, layout: str, task: str = "kvasir", **more: Any) -> list[Record]:
    return find_records(SiteFile(task=task, root=str(root), layout=layout, **more))


def test_pairs_match_by_stem_across_endings(tmp_path: Path) -> None:
    touch(tmp_path, "i/b.JPG", "i/a.x.bmp", "m/b.png", "m/a.x.tif", "i/notes.txt", "m/._b.png")
    records = find(tmp_path, "pairs", images="i", masks="m")
    assert [r.case for r in records] == ["a.x", "b"]
    assert records[1] == Record((tmp_path / "i/b.JPG",), tmp_path / "m/b.png", "b", "train")


def test_isic(tmp_path: Path) -> None:
    touch(
        tmp_path, "images/ISIC_0024473.jpg", "masks/ISIC_0024473_segmentation.png", "images/ATTRIBUTION.txt"
    )
    (record,) = find(tmp_path, "isic", "ham10k")
    assert (record.case, record.mask.name) == ("ISIC_0024473", "ISIC_0024473_segmentation.png")


def test_hc18_keeps_frames_of_a_pregnancy_together(tmp_path: Path) -> None:
    for name in ("010_HC", "010_2HC", "011_HC"):
        touch(tmp_path, f"training_set/{name}.png", f"training_set/{name}_Annotation.png")
    records = find(tmp_path, "hc18", "fetal_head")
    assert [(r.case, r.outline) for r in records] == [("010", True), ("010", True), ("011", True)]


def test_a_list_whose_labels_have_other_numbers_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "m.png")
    content = {
        "labels": {"0": "background", "1": "fetal head"},
        "training": [{"image": "a.png", "label": "m.png"}],
    }
    (tmp_path / "list.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="'fetal head' is 1 in 'labels' and 2 in task fetal"):
        find_records(SiteFile(task="fetal", datalist=str(tmp_path / "list.json")))
    mapped = SiteFile(task="fetal", datalist=str(tmp_path / "list.json"), mask_values={"1": 2})
    assert len(find_records(mapped)) == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["background", "polyp"], None),
        (["polyp", "background"], "'polyp' is 0 in 'labels' and 1 in task kvasir"),
        ({"background": [0], "polyp": [255]}, r"'labels' must tell one number .* \{\"polyp\": 1\}; correct"),
        ({"0": ["background"], "1": ["polyp"]}, "'labels' must tell one number"),
        ("polyp", "'labels' must tell one number"),
    ],
)
def test_labels_of_a_list_are_understood_or_refused(labels: Any, message: str | None, tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "m.png")
    content = {"labels": labels, "training": [ENTRY]}
    if message is None:
        assert len(datalist(tmp_path / "list.json", content)) == 1
        return
    with pytest.raises(DataError, match=message):
        datalist(tmp_path / "list.json", content)
    mapped = SiteFile(task="kvasir", datalist=str(tmp_path / "list.json"), mask_values={"255": 1})
    assert len(find_records(mapped)) == 1


def test_names_match_in_any_form_of_unicode(tmp_path: Path) -> None:
    touch(tmp_path, "images/J\u00f6.png", "masks/Jo\u0308.png")
    (record,) = find(tmp_path, "pairs")
    assert record.case == "J\u00f6"
    touch(tmp_path, "images/Jo\u0308.png")
    with pytest.raises(DataError, match="has the same name"):
        find(tmp_path, "pairs")


def test_a_folder_that_is_called_like_a_picture_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "masks/a.png", "images/z.png/x", "masks/z.png/x", "images/y.nii.gz/x")
    found = find_set(SiteFile(task="kvasir", root=str(tmp_path), layout="pairs"))
    assert [record.case for record in found.records] == ["a"]
    assert found.unused == ["2 folders in images/ are not read", "1 folder in masks/ is not read"]


def test_webp_is_read_and_other_endings_are_counted(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "images/a.webp",
        "masks/a.webp",
        "images/b.GIF",
        "images/c",
        "masks/b.gif",
        "images/.DS_Store",
    )
    found = find_set(SiteFile(task="kvasir", root=str(tmp_path), layout="pairs"))
    assert [record.case for record in found.records] == ["a"]
    assert found.unused == [
        "2 files of images/ are not read: 1 .gif, 1 without ending",
        "1 file of masks/ is not read: 1 .gif",
    ]


def datalist(path: Path, content: Any) -> list[Record]:
    path.write_text(json.dumps(content))
    return find_records(SiteFile(task="kvasir", datalist=str(path)))


def test_datalist(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png", "m.png")
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
        ({"image": [], "label": "a.png"}, r"training\[0\] must have 'image' and 'label'"),
        ({"image": ["a.png", 3], "label": "a.png"}, r"training\[0\] must have 'image' and 'label'"),
        ({"image": "", "label": "a.png"}, r"training\[0\] must have 'image' and 'label'"),
        ({"image": "a.png", "label": ["a.png"]}, r"training\[0\] must have 'image' and 'label'"),
        ({"image": "a.png", "label": "a.png"}, "image and mask are one file"),
        (
            {"image": "a.png", "label": "m.png", "outlines": True},
            "'outlines'; did you mean 'outline'",
        ),
        ({"image": "a.png", "label": "m.png", "outline": "true"}, "'outline' true or false"),
        ({"image": "a.png", "label": "m.png", "case": ["p1"]}, "'case' must be a text or a number"),
        ({"image": "a.png", "label": "m.png", "case": ""}, "'case' must be a text or a number"),
        ({"image": "folder", "label": "m.png"}, r"training\[0\]: .*folder is no regular file"),
        ({"image": "a" * 300, "label": "m.png"}, "cannot be read"),
        ("a.png", r"training\[0\] must have 'image' and 'label'"),
    ],
)
def test_wrong_datalist_entries(tmp_path: Path, entry: Any, message: str) -> None:
    touch(tmp_path, "a.png", "m.png", "folder/x")
    with pytest.raises(DataError, match=message):
        datalist(tmp_path / "list.json", {"training": [entry]})


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("val", [ENTRY], r"unknown section 'val'; did you mean 'validation'\? \(known: training, valid"),
        ("Train", [ENTRY], "did you mean 'training'"),
        ("tests", ["a.png"], "did you mean 'test'"),
        ("fold_1", [ENTRY], r"unknown section 'fold_1' \(known: "),
        ("fold_1", [["a.png", "m.png"]], r"unknown section 'fold_1'"),
        ("test", {"a.png": "m.png"}, "'test' must be a list"),
        ("Validation", {"a": ENTRY}, "unknown section 'Validation'; did you mean 'validation'"),
        ("fold2", {"training": ["a.png"]}, "unknown section 'fold2'"),
        ("folds", {"1": {"training": [ENTRY]}}, "unknown section 'folds'"),
        ("folds", {"1": [ENTRY]}, "unknown section 'folds'"),
        ("more", {"a": ENTRY}, "unknown section 'more'"),
        ("test", ["a.png"], r"test\[0\] must have 'image' and 'label'"),
    ],
)
def test_sections_that_would_not_be_read_are_named(
    section: str, value: Any, message: str, tmp_path: Path
) -> None:
    touch(tmp_path, "a.png", "m.png")
    with pytest.raises(DataError, match=message):
        datalist(tmp_path / "list.json", {"training": [ENTRY], section: value})


def test_keys_and_labels_that_are_not_used_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "m.png")
    entries = [ENTRY | {"fold": 0}, ENTRY | {"image": "b.png", "spacing": 1}]
    (tmp_path / "list.json").write_text(
        json.dumps(
            {
                "training": entries,
                "modality": {"0": "RGB"},
                "info": {"authors": ["A", "B"]},
                "unlabeled": ["a.png", "b.png"],
                "test": None,
                "numTraining": 3,
            }
        )
    )
    found = find_set(SiteFile(task="kvasir", datalist=str(tmp_path / "list.json")))
    assert len(found.records) == 2
    assert found.unused == [
        f"{tmp_path}/list.json: 'unlabeled' is not read (2 values)",
        "the key 'fold' of 1 entry is not read",
        "the key 'spacing' of 1 entry is not read",
        "1 image has the label of another image",
        f"{tmp_path}/list.json tells 3 training cases; 2 are there and read",
    ]


def test_what_a_list_does_not_name_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{folder}/{n}.png" for folder in ("images", "masks") for n in "abc"))
    touch(
        tmp_path, "images/.hidden.png", "images/site.json", "images/d.gif", "masks/d.dcm", "report/data.html"
    )
    path = tmp_path / "list.json"
    site_file = SiteFile(task="kvasir", datalist=str(path))
    for names, words in (
        ("abc", [f"2 files beside those of {path} are not read: 1 .dcm, 1 .gif"]),
        ("ab", [f"4 files beside those of {path} are not read: 1 .dcm, 1 .gif, 2 .png"]),
    ):
        entries = [{"image": f"images/{n}.png", "label": f"masks/../masks/{n}.png"} for n in names]
        path.write_text(json.dumps({"training": entries}))
        assert find_set(site_file).unused == words


@pytest.mark.parametrize("place", ["", "home/"])
def test_folders_beside_those_of_a_list_are_counted(place: str, tmp_path: Path) -> None:
    """Whether the list lies in the set's folder or elsewhere."""
    names = [f"{folder}/{part}/a.png" for folder in ("images", "masks") for part in ("train", "val")]
    touch(
        tmp_path, *(f"set/{name}" for name in names), "set/report/data.html", "set/.git/x.png", "other/x.png"
    )
    path = tmp_path / (place or "set") / "list.json"
    path.parent.mkdir(exist_ok=True)
    entry = {"image": f"{tmp_path}/set/images/train/a.png", "label": f"{tmp_path}/set/masks/train/a.png"}
    path.write_text(json.dumps({"training": [entry]}))
    site_file = SiteFile(task="kvasir", datalist=str(path))
    assert find_set(site_file).unused == [f"2 folders beside those of {path} are not read"]
    touch(tmp_path, "set/images_extra/deep/x.dcm")
    assert find_set(site_file).unused == [f"3 folders beside those of {path} are not read"]


def test_folders_beside_those_of_pairs_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "train/images/a.png", "train/masks/a.png", "images_extra/b.png", "check/data.html")
    words = ["1 folder beside train/images/ and train/masks/ is not read"]
    folders = {"images": "train/images", "masks": "train/masks"}
    assert find_set(SiteFile("kvasir", root=str(tmp_path), layout="pairs", **folders)).unused == words
    (tmp_path / "set").mkdir()
    (tmp_path / "set/images").symlink_to(tmp_path / "train/images")
    linked = SiteFile("kvasir", root=str(tmp_path / "set"), layout="pairs", masks="../train/masks")
    assert find_set(linked).unused == []


@pytest.mark.parametrize("listed", [3, 6])
@pytest.mark.parametrize("deep", ["", "/anat"])
def test_patients_that_a_list_does_not_name_are_counted(deep: str, listed: int, tmp_path: Path) -> None:
    touch(tmp_path, *(f"set/p{n}{deep}/{name}.png" for n in range(8) for name in ("image", "mask")))
    path = tmp_path / "list.json"
    entries = [{key: f"set/p{n}{deep}/{file}.png" for key, file in FILES.items()} for n in range(listed)]
    path.write_text(json.dumps({"training": entries}))
    touch(tmp_path, f"set/p1{deep}/other.png")
    assert find_set(SiteFile(task="kvasir", datalist=str(path))).unused == [
        f"1 file beside those of {path} is not read: 1 .png",
        f"{8 - listed} folders beside those of {path} are not read",
    ]


def test_images_of_a_list_have_the_same_channels(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "m.png")
    entries = [ENTRY | {"image": ["a.png", "b.png"]}, ENTRY]
    with pytest.raises(DataError, match=r"training\[1\] has 1 channel, .*training\[0\] 2"):
        datalist(tmp_path / "list.json", {"training": entries})


@pytest.mark.parametrize(
    "cases",
    [
        ("P1", "p1"),
        ("p1", "p1 "),
        ("J\u00f6", "Jo\u0308"),
        ("p 1", "p  1"),
        ("p 1", "p\u00a01"),
        ("p1", "p\u200b1"),
        ("p1", "\uff501"),
    ],
)
def test_a_patient_written_in_two_ways_is_named(cases: tuple[str, str], tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "m.png")
    entries = [ENTRY | {"case": cases[0]}, ENTRY | {"image": "b.png", "case": cases[1]}]
    with pytest.raises(DataError, match="differ only in case, spaces or Unicode form") as caught:
        datalist(tmp_path / "list.json", {"training": entries})
    assert caught.value.public == "a patient is written in two ways"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_json_as_windows_writes_it(encoding: str, tmp_path: Path) -> None:
    touch(tmp_path, "\u00e4.png", "m.png")
    listed = {"training": [{"image": "\u00e4.png", "label": "m.png"}]}
    (tmp_path / "list.json").write_text(json.dumps(listed, ensure_ascii=False), encoding=encoding)
    (tmp_path / "site.json").write_text('{"task": "kvasir", "datalist": "list.json"}', encoding=encoding)
    assert len(find_records(read_site_file(tmp_path / "site.json"))) == 1


def test_empty_and_missing_datalist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images found; it must list them under 'training'"):
        datalist(tmp_path / "list.json", {"training": []})
    with pytest.raises(DataError, match=r"gone.json: configuration file not found"):
        find_records(SiteFile(task="kvasir", datalist=str(tmp_path / "gone.json")))


def test_a_pattern_that_names_nobody_matches_nothing(tmp_path: Path) -> None:
    touch(tmp_path, "images/a1.png", "masks/a1.png")
    for pattern in ("a(x)?", "a(x*)"):
        with pytest.raises(DataError, match="'case_pattern' does not match 'a1'"):
            find(tmp_path, "pairs", case_pattern=pattern)


def test_case_pattern_groups_images(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{folder}/p{p}_{i}.png" for folder in ("images", "masks") for p in "12" for i in "ab"))
    assert [r.case for r in find(tmp_path, "pairs", case_pattern="^(p.)_")] == ["p1", "p1", "p2", "p2"]
    with pytest.raises(DataError, match="'case_pattern' does not match 'p1_a'"):
        find(tmp_path, "pairs", case_pattern="^(q.)_")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["images/a.png", "images/b.png", "masks/a.png"],
            "/images/b.png: 'b' has no mask; add it or remove the image",
        ),
        (
            ["images/a.png", "masks/a.png", "masks/b.png"],
            "/masks/b.png: 'b' has no image; add it or remove the mask",
        ),
        (["images/a.png", "images/a.jpg", "masks/a.png"], "a.jpg has the same name; remove one"),
        (["images/a.png"], "masks: no such folder"),
        (["images/a.txt", "masks/a.txt"], "no images found.*1 file of images/ is not read: 1 .txt"),
    ],
)
def test_incomplete_sets(tmp_path: Path, files: list[str], message: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(DataError, match=message) as caught:
        find(tmp_path, "pairs")
    assert "a.png" not in caught.value.public


def test_unknown_layout(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"unknown layout 'pair'; did you mean 'pairs'\? \(known: pairs, isic"
    ):
        find(tmp_path, "pair")
