"""Every command of the how-to runs, on small jobs and a few phantoms; those for kits in tests/deploy."""

import json
import re
import shutil
from pathlib import Path

import pytest
from families import METHODS, whole_content
from shell import blocks, run
from tiny_job import REPOSITORY, tiny_content, write_job

from mucald import __main__
from mucald.home import HOME_VARIABLE

ONCE = {
    "release": {
        "mode": "once",
        "pretraining_epochs": 8,
        "t": 350,
        "gradient_clip": 0.0003,
        "gradient_noise_std": 1.0,
    },
    "network": {"features": [8, 16, 16], "cut": 2},
    "training": {"rounds": 4, "local_epochs": 2},
    "handover": {"epochs": 20},
    "wire": {"feature_gradient": "int4"},
}
"""What the default policy allows, with the passes over the images that the how-to tells of."""


VOLUMES = "weights volumes"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with jobs of the names that the how-to uses, two sites with images of their own, and a run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    write_job(tmp_path / "jobs/mucald", tiny_content(ONCE, name="mucald"))
    plain = {"method": "weights", "shared": ["middle"], "algorithm": {"name": "fedavg"}, "name": "fedavg"}
    write_job(tmp_path / "jobs/fedavg", whole_content(plain))
    write_job(tmp_path / "jobs/fedcmt", METHODS[VOLUMES] | {"name": "fedcmt"})
    for number, site in enumerate(("north", "south")):
        drawn = ["phantoms", "--task", "kvasir", "--out", f"data/{site}", "--count", "9", "--size", "16"]
        assert __main__.main([*drawn, "--seed", str(number)]) == 0
        for path in (tmp_path / "data" / site).glob("*/*.png"):
            path.rename(path.with_name(path.name.replace("phantom_", "p")))
            # Names as the pattern of the how-to tells patients: p000_1.png.
        for path in (tmp_path / "data" / site).glob("*/*.png"):
            path.rename(path.with_stem(f"{path.stem}_1"))
        content = {"task": "kvasir", "root": f"../../data/{site}", "layout": "pairs"}
        (tmp_path / "home" / site).mkdir(parents=True)
        (tmp_path / "home" / site / "site.json").write_text(json.dumps(content))
    names = sorted(path.name for path in (tmp_path / "data/north/images").iterdir())
    (tmp_path / "patients.csv").write_text(
        "file,patient\n" + "".join(f"{name},{name[:4]}\n" for name in names)
    )
    assert __main__.main(["new-job", "jobs/mucald", "--home", "home", "--out", "home/job"]) == 0
    assert __main__.main(["run", "jobs/mucald", "-w", "workspace", "--threads", "2"]) == 0
    shutil.copytree(tmp_path / "data/north/images", tmp_path / "images")
    return tmp_path


def small(line: str) -> str:
    """Return a command with one seed, few volumes, and the site that the small job has."""
    line = line.replace("--seeds 7 8 9", "--seeds 7").replace("--site polyp", "--site north")
    line = line.replace("--count 12", "--count 5")
    return line.replace("--out volume-masks", "--unmirrored --out volume-masks")


def test_every_command_of_the_how_to_runs(place, monkeypatch, capsys):
    commands = 0
    for block, _ in blocks("docs/how-to.md"):
        for line in map(small, block.splitlines()):
            if line.startswith("mucald submit"):
                continue
            if line.startswith("mucald prepare"):
                (place / "home/north/datalist.json").unlink(missing_ok=True)
            commands += run(line, place, monkeypatch)
    assert commands == 18
    assert len(list((place / "volume-masks").glob("*.nii.gz"))) == 5
    assert "Gain" in (place / "report/report.md").read_text()
    assert len(list((place / "masks").glob("*.png"))) == 9
    capsys.readouterr()
    text = (REPOSITORY / "docs/how-to.md").read_text(encoding="utf-8")
    inline = re.findall(r"`(mucald (?:show-job|account|page|completion) [\w/ -]+)`", text)
    assert len(inline) == 5
    for line in inline:
        run(line.replace("JOB", "jobs/mucald"), place, monkeypatch)
        assert capsys.readouterr().out
