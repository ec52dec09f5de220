"""Data lists from any layout: patients stay together, and whatever would leak one is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import load_tool
from image_files import write_pair

from mucald.commands.data.prepare import main
from mucald.data.records.datalist import build_datalist
from mucald.data.records.layouts import find_records
from mucald.data.records.patients import read_patients
from mucald.data.records.splits import split_records
from mucald.data.site_file import SiteFile, read_site_file
from mucald.errors import DataError
from mucald.tasks import get_task

TOOLS = Path(__file__).parents[2] / "tools"
SECTIONS = ("training", "validation", "test")


@pytest.fixture
def visits(tmp_path: Path) -> Path:
    """Two pictures of each of eight patients, and the site file that names them."""
    for index in range(16):
        name = f"p{index // 2}_{index % 2}"
        write_pair(tmp_path / f"set/images/{name}.png", tmp_path / f"set/masks/{name}.png", index)
    content = {"task": "kvasir", "root": "set", "layout": "pairs"}
    (tmp_path / "site.json").write_text(json.dumps(content))
    return tmp_path


def prepare(folder: Path, *arguments: str) -> int:
    return main([str(folder / "site.json"), "--out", str(folder / "list.json"), *arguments])


def patients_of(folder: Path) -> dict[str, set[str]]:
    content = json.loads((folder / "list.json").read_text())
    return {section: {entry["case"] for entry in content[section]} for section in SECTIONS}


def check_whole(folder: Path) -> None:
    found = patients_of(folder)
    assert set().union(*found.values()) == {f"p{number}" for number in range(8)}
    assert sum(len(patients) for patients in found.values()) == 8, "a patient is in one split"
    content = json.loads((folder / "list.json").read_text())
    assert sum(len(content[section]) for section in SECTIONS) == 16


def test_patients_from_a_pattern_stay_together(visits):
    assert prepare(visits, "--case-pattern", r"^(p\d+)_") == 0
    check_whole(visits)


@pytest.mark.parametrize("ending", ["", ".png"])
def test_patients_from_a_table_stay_together(ending, visits):
    lines = [f"p{i // 2}_{i % 2}{ending},p{i // 2}" for i in range(16)]
    (visits / "cases.csv").write_text("image,id\n" + "\n".join(lines) + "\n")
    table = ["--cases", str(visits / "cases.csv"), "--file-column", "image", "--case-column", "id"]
    assert prepare(visits, *table) == 0
    check_whole(visits)


def test_without_patients_every_image_is_one_and_the_tool_says_so(visits, capsys):
    assert prepare(visits) == 0
    assert sum(len(patients) for patients in patients_of(visits).values()) == 16
    assert "every image is a patient of its own" in capsys.readouterr().out


def test_the_list_has_the_splits_of_the_site_file_it_was_made_from(visits):
    assert prepare(visits, "--case-pattern", r"^(p\d+)_") == 0
    old = read_site_file(visits / "site.json")
    pattern = SiteFile("kvasir", root=old.root, layout="pairs", case_pattern=r"^(p\d+)_")
    new = SiteFile("kvasir", datalist=str(visits / "list.json"))
    before, after = (split_records(find_records(one), one) for one in (pattern, new))
    for name, chosen in before.items():
        files = [(record.images[0].resolve(), record.case) for record in chosen]
        assert [(record.images[0].resolve(), record.case) for record in after[name]] == files


def test_a_copy_in_another_split_is_refused_whatever_it_is_called(visits, capsys):
    """The same picture under another patient's name, saved anew in another format."""
    from PIL import Image

    assert prepare(visits, "--case-pattern", r"^(p\d+)_") == 0
    found = patients_of(visits)
    one, other = (sorted(found[section])[0] for section in ("training", "test"))
    Image.open(visits / f"set/images/{one}_0.png").save(visits / f"set/images/{other}_0.bmp")
    (visits / f"set/images/{other}_0.png").unlink()
    (visits / "list.json").unlink()
    assert prepare(visits, "--case-pattern", r"^(p\d+)_") == 1
    assert "the same image in several splits" in capsys.readouterr().err
    assert not (visits / "list.json").exists()


def test_a_copy_within_a_patient_is_no_leak(visits):
    shutil.copy(visits / "set/images/p3_0.png", visits / "set/images/p3_1.png")
    assert prepare(visits, "--case-pattern", r"^(p\d+)_") == 0


def test_a_layout_that_puts_a_patient_into_two_splits_is_refused(visits, capsys):
    def entry(name: str) -> dict[str, str]:
        return {"image": f"set/images/{name}.png", "label": f"set/masks/{name}.png"}

    lists = {"training": [entry("p0_0"), entry("p1_0")], "test": [entry("p0_1")]}
    (visits / "mixed.json").write_text(json.dumps(lists))
    (visits / "site.json").write_text(json.dumps({"task": "kvasir", "datalist": "mixed.json"}))
    assert prepare(visits, "--case-pattern", r"(p\d+)_\d\.png") == 1
    assert "case 'p0' is in the splits 'train' and 'test'" in capsys.readouterr().err


def test_the_list_names_links_and_not_what_they_lead_to(visits):
    """Stores of links, such as git-annex and DVC have, name their files without endings."""
    (visits / "store").mkdir()
    for path in sorted(visits.glob("set/*/*.png")):
        stored = visits / "store" / f"{path.parent.name}{path.stem}beef"
        path.rename(stored)
        path.symlink_to(Path("../../store") / stored.name)
    assert prepare(visits) == 0
    content = json.loads((visits / "list.json").read_text())
    assert {Path(entry["image"]).parent.as_posix() for entry in content["training"]} == {"set/images"}
    (visits / "site.json").write_text(json.dumps({"task": "kvasir", "datalist": "list.json"}))
    assert load_tool("check_data").main([str(visits / "site.json")]) == 0


@pytest.mark.parametrize(
    ("out", "status", "words"),
    [
        ("set/images/p0_0.png", 2, "must end with .json, as a data list does"),
        ("set/images/p0_0.json", 1, "is read, so it cannot be written"),
        ("link.json", 1, "is read, so it cannot be written"),
        ("old.json", 1, "is read, so it cannot be written"),
    ],
)
def test_nothing_that_the_set_reads_is_written_over(out, status, words, visits):
    assert prepare(visits, "--out", str(visits / "old.json")) == 0
    (visits / "site.json").write_text(json.dumps({"task": "kvasir", "datalist": "old.json"}))
    (visits / "link.json").symlink_to("set/masks/p0_0.png")
    (visits / "set/images/p0_0.json").symlink_to("p0_0.png")
    before = {path: path.read_bytes() for path in sorted(visits.rglob("*.*"))}
    command = [sys.executable, str(TOOLS / "prepare_data.py"), str(visits / "site.json")]
    done = subprocess.run([*command, "--out", str(visits / out), "--force"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (status, 1)
    assert words in done.stderr
    assert {path: path.read_bytes() for path in sorted(visits.rglob("*.*"))} == before


def test_a_fault_of_a_mask_is_told_before_a_list_is_written(visits, capsys):
    (visits / "set/masks/p3_0.png").write_bytes(b"")
    assert prepare(visits) == 1
    assert "p3_0.png: cannot be read" in capsys.readouterr().err
    assert not (visits / "list.json").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,patient\n", "no column 'file'"),
        ("file,patient\na,1\na,2\n", "has the patients '1' and '2'"),
        ("file,patient\na,\n", "lacks 'file' or 'patient'"),
        ("file,patient,patient\na,1,2\n", "several columns are called 'patient'; rename all but one"),
        ("file,patient\na,Meier, Ann\n", r"more cells than columns: .*\[' Ann'\].*quotation marks"),
    ],
)
def test_a_wrong_table_is_named_with_its_fault(table, message, tmp_path):
    (tmp_path / "cases.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        read_patients(tmp_path / "cases.csv", "file", "patient")


def test_a_table_that_is_not_there_is_told_without_an_error_number(tmp_path):
    with pytest.raises(
        DataError, match=r"cases\.csv: it does not exist; give a table with the columns 'f' and 'p'$"
    ):
        read_patients(tmp_path / "cases.csv", "f", "p")


def test_an_image_that_the_table_lacks_is_named(visits, capsys):
    (visits / "cases.csv").write_text("file,patient\np0_0,p0\n")
    assert prepare(visits, "--cases", str(visits / "cases.csv")) == 1
    assert "p0_1.png" in capsys.readouterr().err


def test_rows_that_name_no_image_are_counted_and_two_patients_of_an_image_refused(visits, capsys):
    rows = "".join(f"p{i // 2}_{i % 2}.png,p{i // 2}\n" for i in range(16))
    table = visits / "cases.csv"
    table.write_text(f"file,patient\n{rows}p0_0,p0\np77.png,p7\np78.png,p7\n")
    assert prepare(visits, "--cases", str(table)) == 0
    assert "\n2 rows of the table of patients: no such image\n" in capsys.readouterr().out
    table.write_text(f"file,patient\n{rows}p0_0,p9\n")
    assert prepare(visits, "--cases", str(table), "--force") == 1
    words = "p0_0.png: the table names the patients 'p0' ('p0_0.png') and 'p9' ('p0_0'); keep one"
    assert words in capsys.readouterr().err


def test_outlines_and_files_elsewhere_survive_the_list(tmp_path):
    for index in range(3):
        folder = tmp_path / "hc18/training_set"
        write_pair(folder / f"{index}_HC.png", folder / f"{index}_HC_Annotation.png", index)
    site_file = SiteFile("fetal_head", root=str(tmp_path / "hc18"), layout="hc18")
    splits = split_records(find_records(site_file), site_file)
    (tmp_path / "elsewhere").mkdir()
    content = build_datalist(splits, get_task("fetal_head"), tmp_path / "elsewhere")
    (tmp_path / "elsewhere/list.json").write_text(json.dumps(content))
    again = SiteFile("fetal_head", datalist=str(tmp_path / "elsewhere/list.json"))
    records = find_records(again)
    assert len(records) == 3
    assert all(record.outline for record in records)


def test_the_command_tells_what_to_put_into_the_site_file(visits):
    done = subprocess.run(
        [sys.executable, TOOLS / "prepare_data.py", visits / "site.json", "--out", visits / "l.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"datalist"' in done.stdout
    assert (visits / "l.json").stat().st_mode & 0o077 == 0, "it names patients"
