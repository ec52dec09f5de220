"""The README's commands for one's own images run, on small sets in the layouts that it names."""

from pathlib import Path

from shell import blocks, run
from test_how_to import ONCE
from tiny_job import tiny_content, write_job

from mucald import __main__


def draw(task: str, folder: Path, named: str) -> None:
    """Draw a small set; ``named`` is the beginning of its files' names."""
    drawn = ["phantoms", "--task", task, "--out", str(folder), "--count", "9", "--size", "16"]
    assert __main__.main(drawn) == 0
    for kind, ending in (("images", ""), ("masks", "_segmentation" if named else "")):
        for path in (folder / kind).iterdir():
            path.rename(path.with_stem(path.stem.replace("phantom_", named or "phantom_") + ending))


def test_the_commands_for_own_images_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path / "jobs/mucald", tiny_content(ONCE, name="mucald"))
    draw("kvasir", tmp_path / "data/kvasir_seg", "")
    draw("ham10k", tmp_path / "data/ham10000", "ISIC_")
    (block,) = (block for block, _ in blocks("README.md") if "site.json" in block)
    assert "/data/kvasir_seg" in block
    assert "/data/ham10000" in block
    commands = 0
    for line in block.replace('"/data/', f'"{tmp_path}/data/').splitlines():
        before, home, after = line.partition("MUCALD_HOME=$PWD/home ")
        if home:
            run(f"export {home.strip()}", tmp_path, monkeypatch)
        commands += run(after if home else before, tmp_path, monkeypatch)
    assert commands == 4
    assert (tmp_path / "own/server/results.html").exists()
