"""The tutorial works: every command of it, one after the other, prints what it says."""

import json
import logging
import re
from pathlib import Path

from shell import blocks, run
from tiny_job import REPOSITORY

SMALL = {
    "data.image_size": 32,
    "network.features": [8, 16, 16],
    "training": {"rounds": 4, "local_epochs": 1},
    "release.pretraining_epochs": 1,
    "handover.epochs": 1,
    "crdm": {"encoder_width": 8, "causal_hidden": 8, "denoiser_width": 8},
    "daca": {"width": 8, "steps": 2, "batch_per_site": 2},
}
"""What makes the job as small as it gets; the commands are those of the tutorial."""


def shrink(path: Path) -> None:
    content = json.loads(path.read_text())
    content["set"] |= SMALL
    path.write_text(json.dumps(content))


def pattern_of(line: str, numbers: bool) -> str:
    """Return what a printed line must match; ``…`` stands for anything, a number for any if asked."""
    parts = [re.escape(" ".join(part.split())) for part in line.split("…")]
    text = ".*".join(parts)
    return re.sub(r"\d+(\\\.\d+)?", r"\\d+(\\.\\d+)?", text) if numbers else text


def test_every_command_prints_what_the_tutorial_says(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    # A run prints what it logs, but for tests, which collect it.
    caplog.set_level(logging.INFO)
    (tmp_path / "jobs").symlink_to(REPOSITORY / "jobs")
    commands = 0
    for block, told in blocks("docs/tutorial.md"):
        for line in block.splitlines():
            if line.startswith("mucald run "):
                shrink(tmp_path / "two-sites/job/app/config/mucald.json")
            commands += run(line, tmp_path, monkeypatch)
        output = "\n".join([capsys.readouterr().out, *caplog.messages])
        caplog.clear()
        printed = [re.sub(r"[-+](?=\d)", "", " ".join(line.split())) for line in output.splitlines()]
        for line in filter(lambda line: line.strip("… "), told.splitlines()):
            pattern = pattern_of(re.sub(r"[-+](?=\d)", "", line), numbers="mucald run" in block)
            assert any(re.fullmatch(pattern, each) for each in printed), f"{line}\n{output}"
    assert commands == 9
    page = (tmp_path / "tutorial-workspace/server/results.html").read_text()
    assert "They stay in the site's own folder" in page
    assert "What left the sites" in page
    assert len(list((tmp_path / "tutorial-masks").glob("*.png"))) == 40
    assert all((tmp_path / f"check/{site}/data.html").exists() for site in ("north", "south"))
