"""Mistakes whose message would mislead if it came from where they end rather than from where they begin."""

import json

import pytest
from commands import load_tool
from image_files import write_pair
from tiny_job import tiny_content, write_job

from mucald import __main__


@pytest.fixture(autouse=True)
def _there(tmp_path, monkeypatch):
    """A job, and a site with images of its own, in the folder in which commands are given."""
    write_job(tmp_path / "job", tiny_content())
    for index in range(4):
        write_pair(
            tmp_path / f"home/images/{index}.png", tmp_path / f"home/masks/{index}.png", index, top=255
        )
    (tmp_path / "home/site.json").write_text(json.dumps({"task": "kvasir", "root": ".", "layout": "pairs"}))
    (tmp_path / "own/polyp_a").mkdir(parents=True)
    (tmp_path / "own/polyp_a/policy.json").write_text("the user's own")
    monkeypatch.chdir(tmp_path)


SITE = "home/site.json"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("mucald job -w", "argument -w/--workspace: must name a file or folder, not nothing"),
        ("mucald job/app -w new", "job/app is no job folder: it has no meta.json; give job"),
        ("simulate job -w", "argument -w/--workspace: must name a file or folder, not nothing"),
        ("attack run --out", "argument --out: must name a file or folder, not nothing"),
        ("attack run --home nowhere --out new", "argument --home: nowhere is no folder"),
        ("attack run --auxiliary-home job/meta.json --out new", "job/meta.json is no folder"),
        ("frontier --base job --out new --auxiliary-home no", "argument --auxiliary-home: no is no folder"),
        (
            "frontier --base job --out new --sites nort",
            "--sites: no run has a site 'nort'; did you mean 'north'?",
        ),
        ("experiments --jobs job --out job/meta.json", "job/meta.json: cannot be written (File exists)"),
        ("contact_sheet --out new.txt", "--out new.txt: the sheet is a PNG file; call it so"),
        ("consortium home --home new", "home holds no kvasir_seg; it needs Dataset501_CovidCT, ham10000"),
        ("consortium home --home own", "own/polyp_a/policy.json exists; give another place, or --force"),
        ("discover_graph --home home --task ham10k", f"{SITE} is not of the task 'ham10k'; leave --task out"),
        ("discover_graph --task ham10k --seed x", "argument --seed: must be a whole number, not 'x'"),
        (f"prepare_data {SITE} --force --out {SITE}", f"--out {SITE} is read, so it cannot be written"),
        (f"prepare_data {SITE} --cases t.csv --force --out t.csv", "--out t.csv is read"),
        (f"prepare_data {SITE} --out new --case-column x", "--file-column and --case-column go with --cases"),
        ("check_data nowhere", "argument site_file: nowhere does not exist; give the path of a site.json"),
        ("export --run job/meta.json --site north --out new", "job/meta.json is no folder; give the folder"),
    ],
)
def test_a_mistake_is_told_in_one_line_as_what_it_is(command, said, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    name, *arguments = command.split()
    if arguments[-1] in ("-w", "--out"):
        arguments.append("")
    main = __main__.main if name == "mucald" else load_tool(name).main
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    output, errors = capsys.readouterr()
    assert status in (1, 2)
    assert output == ""
    assert errors.count("\n") == 1
    assert errors.startswith("error: ")
    assert said in errors
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
