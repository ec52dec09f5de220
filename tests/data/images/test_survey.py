"""What the data manager is told of the site's images."""

import base64
import csv
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from tiny_job import REPOSITORY

from mucald.commands.data.check import main
from mucald.data.files import plain
from mucald.data.images.summary import summaries
from mucald.data.images.survey import survey
from mucald.data.site_file import read_site_file
from mucald.methods.split.causal.graphs import CAUSAL_TASKS, causal_task
from mucald_studies.reporting.data_page import STAYS
from mucald_studies.reporting.pictures import OUTLINES


@pytest.fixture
def home(pairs, site) -> Path:
    """Ten pictures of 20 x 16 pixels in a site of its own."""
    return site(task="kvasir", root=str(pairs), layout="pairs")


def found_in(home: Path):
    site_file = read_site_file(home / "site.json")
    return survey(site_file, causal_task(site_file.task).measures)


def test_every_number_is_that_of_the_files(home, pairs):
    found = found_in(home)
    assert found.faults == []
    assert len(found.images) == 10
    assert {image.record.split for image in found.images} == {"train", "validation", "test"}
    task = causal_task("kvasir")
    for facts in found.images:
        image = np.asarray(Image.open(facts.path))
        mask = (np.asarray(Image.open(pairs / "masks" / facts.path.name)) > 0).astype(np.uint8)
        assert facts.shape == (1, 16, 20)
        assert facts.spacing is facts.window is None
        assert facts.mask == "PNG grey: 0 is class 0, 255 is class 1"
        assert (facts.low, facts.high) == (image.min(), image.max())
        assert facts.pixels.tolist() == [320 - mask.sum(), mask.sum()]
        assert facts.slices_with.tolist() == [1, 1]
        expected = [task.proxies[node](image, mask) for node in task.graph.nodes]
        np.testing.assert_allclose(facts.measures, [expected])


def test_volumes_tell_spacing_and_values_as_stored(tmp_path, site):
    for index in range(3):
        volume = np.full((10, 8, 4), -1000.0 + index)
        volume[2:5, 2:5, 1] = 400
        labels = (volume == 400).astype(np.uint8)
        for folder, array in (("images", volume), ("masks", labels)):
            (tmp_path / "ct" / folder).mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(array, np.diag([0.7, 0.7, 5, 1]))
            nibabel.save(image, tmp_path / f"ct/{folder}/{index}.nii.gz")
    found = found_in(site(task="mosmed", root=str(tmp_path / "ct"), layout="pairs"))
    for facts in found.images:
        assert facts.shape == (4, 10, 8)
        assert facts.spacing == pytest.approx((0.7, 0.7, 5))
        assert facts.low < -990
        assert facts.high == 400
        assert facts.slices_with.tolist() == [4, 1]
        assert facts.orientation == "RAS"
        assert facts.window == pytest.approx((facts.low, 400))
    text = "\n".join(map(str, summaries(found)))
    for row in ("0.7 x 0.7 x 5  3", "8 x 10  3", "1 infection   27      2.81 %   3 of 12", "RAS    3"):
        assert row in text
    assert "NIfTI float64: 0 is class 0, 1 is class 1" in text.replace("uint8", "float64")


def test_damaged_files_are_listed_and_the_others_counted(home, pairs, capsys):
    (pairs / "images/03.png").write_bytes(b"no picture")
    Image.new("L", (5, 5)).save(pairs / "masks/04.png")
    assert main([str(home / "site.json")]) == 1
    text = capsys.readouterr().out
    assert re.search(r"images/03\.png: cannot be read", text)
    assert re.search(r"masks/04\.png: the mask is 5 x 5", text)
    assert re.search(r"unreadable +2\n", text)
    assert re.search(r"all +8 +8 +8\n", text)
    assert not (home / "checked.json").exists()


def test_units_and_axes_that_look_wrong_are_remarked(tmp_path, site):
    """A header that calls mm metres, and images whose axes point elsewhere than the others'."""
    draws = np.random.default_rng(0)
    for index, affine in enumerate((np.diag([0.7, 0.7, 5, 1]), np.diag([-0.7, 0.7, 5, 1]), np.eye(4))):
        for folder, array in (("images", draws.random((8, 8, 2))), ("masks", np.ones((8, 8, 2)))):
            (tmp_path / "ct" / folder).mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(array.astype(np.float32), affine)
            image.header.set_xyzt_units("meter" if index == 0 else "mm")
            nibabel.save(image, tmp_path / f"ct/{folder}/{index}.nii.gz")
    found = found_in(site(task="mosmed", root=str(tmp_path / "ct"), layout="pairs"))
    assert found.faults == []
    assert found.remarks == [
        "the axes of the images point differently: LAS, RAS",
        "voxels measure 0.7 to 5e+03 mm; check the headers' units",
        "no mask holds background",
    ]


def test_slices_along_another_axis_flat_images_and_inverted_masks_are_remarked(tmp_path, site):
    draws = np.random.default_rng(0)
    for index in range(3):
        labels = np.ones((6, 8, 8), np.uint8)
        labels[2:4, 2:4, 2:4] = 0
        for folder, array in (("images", draws.random((6, 8, 8)) * (index > 0)), ("masks", labels)):
            (tmp_path / "ct" / folder).mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(array.astype(np.float32), np.diag([5, 0.8, 0.8, 1]))
            nibabel.save(image, tmp_path / f"ct/{folder}/{index}.nii.gz")
    assert found_in(site(task="mosmed", root=str(tmp_path / "ct"), layout="pairs")).remarks == [
        "3 images have slices whose pixels measure 5 x 0.8 mm; the third axis must count slices",
        "1 image holds one value alone",
        "infection covers 98% of all pixels; check that 0 is background",
    ]


def test_copies_are_told_and_count_as_faults_across_splits(home, pairs):
    split_of = {image.path.stem: image.record.split for image in found_in(home).images}
    train = sorted(name for name, split in split_of.items() if split == "train")
    test = next(name for name, split in split_of.items() if split == "test")
    shutil.copy(pairs / f"images/{train[0]}.png", pairs / f"images/{train[1]}.png")
    within = found_in(home)
    assert [[record.images[0].stem for record in group] for group in within.seen.copies] == [train[:2]]
    assert within.faults == []
    shutil.copy(pairs / f"images/{train[0]}.png", pairs / f"images/{test}.png")
    across = found_in(home)
    assert len(across.seen.leaks) == 1
    assert "the same image in several splits" in across.faults[0]


def test_too_few_patients_are_a_fault(pairs, site):
    home = site(task="kvasir", root=str(pairs), layout="pairs", case_pattern="^(.)")
    assert "too few" not in str(found_in(home).images)
    assert "no case is left" in str(found_in(home).split_fault)


def test_the_page_needs_nothing_else_and_says_that_it_stays(home, tmp_path):
    assert main([str(home / "site.json"), "--out", str(tmp_path / "check")]) == 0
    page = tmp_path / "check/data.html"
    assert page.stat().st_mode & 0o077 == 0
    text = page.read_text(encoding="utf-8")
    assert STAYS.replace("'", "&#x27;") in text
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)
    pictures = re.findall(r"base64,([^\"]+)", text)
    assert len(pictures) == 8
    pixels = Image.open(io.BytesIO(base64.b64decode(pictures[0]))).convert("RGB")
    assert pixels.size == (512, 256)
    assert OUTLINES[0] in {colour for _, colour in pixels.getcolors(512 * 256)}
    titles = re.findall("<h2>(.*)</h2>", text)
    assert titles[:3] == ["Faults", "Examples", "Counts"]
    with (tmp_path / "check/files.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 10
    assert {row["mask, as read"] for row in rows} == {"PNG grey: 0 is class 0, 255 is class 1"}
    assert sum(int(row["polyp, pixels"]) for row in rows) == sum(f.pixels[1] for f in found_in(home).images)
    assert {path.name: path.stat().st_mode & 0o077 for path in tmp_path.glob("check/*")} == {
        "data.html": 0,
        "files.csv": 0,
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (25870.4, "25 870"),
        (1234567, "1 234 567"),
        (0.012345, "0.01235"),
        (-1000.0, "-1 000"),
        (2.5, "2.5"),
        (0, "0"),
    ],
)
def test_numbers_are_shown_without_exponents(value, shown):
    assert plain(value) == shown


def test_without_the_studies_only_the_page_is_missing(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mucald_studies.reporting.data_page", None)
    assert main([str(home / "site.json"), "--out", str(tmp_path / "check")]) == 0
    assert [path.name for path in tmp_path.glob("check/*")] == ["files.csv"]
    said = capsys.readouterr()
    assert "1 polyp" in said.out
    assert said.err == "no data.html: it needs the studies; pip install -e custom/mucald_studies\n"


def test_the_command_imports_nothing_of_the_studies_before_it_needs_them():
    program = "import sys; import mucald.commands.data.check; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert not {name.split(".")[0] for name in done.stdout.split()} & {"mucald_studies", "jinja2", "markdown"}


def test_names_that_are_no_text_are_printed_with_escapes(home, pairs, tmp_path, capsys):
    for folder in ("images", "masks"):
        (pairs / folder / "03.png").rename(os.fsdecode(os.fsencode(pairs / folder) + b"/\xff.png"))
    (pairs / "images/04.png").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(pairs / "images") + b"/\xff.png")).write_bytes(b"")
    assert main([str(home / "site.json"), "--out", str(tmp_path / "check")]) == 1
    assert "images/\\udcff.png: cannot be read" in capsys.readouterr().out


def test_what_is_not_read_and_what_is_odd_is_said(home, pairs, capsys):
    Image.new("L", (5, 5)).save(pairs / "images/10.gif")
    (pairs / "masks/notes.txt").touch()
    (pairs / "images/.hidden").touch()
    (pairs / "images/more").mkdir()
    for path in (pairs / "masks").glob("*.png"):
        Image.new("L", (20, 16)).save(path)
    assert main([str(home / "site.json")]) == 0
    said = capsys.readouterr().out
    for words in (
        "1 file of images/ is not read: 1 .gif",
        "1 folder in images/ is not read",
        "1 file of masks/ is not read: 1 .txt",
        "no mask holds polyp",
    ):
        assert words in said


def test_a_task_without_proxies_is_surveyed_too(home, monkeypatch, capsys):
    monkeypatch.delitem(CAUSAL_TASKS, "kvasir")
    assert main([str(home / "site.json")]) == 0
    text = capsys.readouterr().out
    assert "1 polyp " in text
    assert "LesionSize" not in text


def test_wrong_folders_end_with_a_clear_message(site, tmp_path, capsys):
    home = site(task="kvasir", root=str(tmp_path / "nowhere"), layout="pairs")
    assert main([str(home / "site.json")]) == 1
    assert "no such folder" in capsys.readouterr().err
