import json
import subprocess
import sys
from pathlib import Path

from image_files import write_pair
from PIL import Image

from mucald.data.records.layouts import find_records
from mucald.data.site_file import read_site_file
from mucald.privacy.policy import DEFAULT, OPEN, read_policy

TOOLS = Path(__file__).parents[2] / "tools"


def run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, TOOLS / tool, *arguments], capture_output=True, text=True, check=False
    )


def test_contact_sheet(tmp_path: Path) -> None:
    out = tmp_path / "docs/sheet.png"
    done = run(
        "contact_sheet.py", "--out", out, "--count", "1", "--size", "24", "--tasks", "kvasir", "blastocyst"
    )
    assert done.returncode == 0, done.stderr
    sheet = Image.open(out).convert("RGB")
    assert str(sheet.size[0]) in done.stdout
    # The outlines' colours survive the palette.
    assert (255, 214, 10) in {colour for _, colour in sheet.getcolors(1 << 16)}


def test_site_files(tmp_path: Path) -> None:
    for name in ("wbc", "hc18", "unknown"):
        (tmp_path / "sets" / name).mkdir(parents=True)
    done = run("site_files.py", tmp_path / "sets", "--home", tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert sorted(path.parent.name for path in tmp_path.glob("home/*/site.json")) == ["hc18", "wbc"]
    site_file = read_site_file(tmp_path / "home/wbc/site.json")
    assert (site_file.task, site_file.layout) == ("wbc", "pairs")
    assert site_file.root == str(tmp_path / "sets/wbc")
    assert "noise_secret" not in json.loads((tmp_path / "home/wbc/site.json").read_text())
    assert "hc18" in done.stdout
    assert read_policy(tmp_path / "home/wbc", "wbc") == DEFAULT
    done = run("site_files.py", tmp_path / "sets", "--home", tmp_path / "home", "--open-policy")
    assert done.returncode == 0, done.stderr
    assert read_policy(tmp_path / "home/wbc", "wbc") == OPEN


def test_site_files_without_known_set(tmp_path: Path) -> None:
    done = run("site_files.py", tmp_path, "--home", tmp_path / "home")
    assert done.returncode == 2
    assert "holds none of kvasir_seg" in done.stderr


def test_hold_out_gives_the_attacker_every_second_image_in_its_eight_orientations(tmp_path: Path) -> None:
    for index in range(5):
        write_pair(tmp_path / f"set/images/{index}.png", tmp_path / f"set/masks/{index}.png", index, top=255)
    out = tmp_path / "halves"
    done = run("hold_out.py", tmp_path / "set", "--task", "kvasir", "--site", "north", "--out", out)
    assert "3 images for the site 'north', 16 for the attacker" in done.stdout
    views = {Image.open(out / f"attacker/images/1_{turn}.png").tobytes() for turn in range(8)}
    assert len(views) == 8
    for turn, way in enumerate([None, *Image.Transpose]):
        mask = Image.open(tmp_path / "set/masks/1.png")
        turned = mask if way is None else mask.transpose(way)
        assert Image.open(out / f"attacker/masks/1_{turn}.png").tobytes() == turned.tobytes()
    for home, cases in (("home", {"0", "2", "4"}), ("auxiliary", {"1", "3"})):
        records = find_records(read_site_file(out / home / "north/site.json"))
        assert {record.case for record in records} == cases
