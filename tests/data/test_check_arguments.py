"""``tools/check_data.py`` and ``tools/prepare_data.py``: what their arguments name."""

import json

import pytest
from commands import load_tool
from image_files import write_pair

PAGES = ("files.csv", "data.html")


@pytest.fixture
def site_file(tmp_path):
    for index in range(6):
        write_pair(tmp_path / f"images/{index}.png", tmp_path / f"masks/{index}.png", index, top=255)
    path = tmp_path / "site.json"
    path.write_text(json.dumps({"task": "kvasir", "root": ".", "layout": "pairs"}))
    return path


@pytest.mark.parametrize("own", PAGES)
def test_a_check_writes_over_nothing_unless_that_is_said(own, site_file, tmp_path, capsys):
    main, out = load_tool("check_data").main, tmp_path / "check"
    out.mkdir()
    (out / own).write_text("the user's own")
    assert main([str(site_file), "--out", str(out)]) == 1
    said = f"error: {out / own} exists; give another place, or --force to write over it\n"
    assert capsys.readouterr() == ("", said)
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [(own, "the user's own")]
    assert not (tmp_path / "checked.json").exists()
    assert main([str(site_file), "--out", str(out), "--force"]) == 0
    assert all("the user's own" not in (out / name).read_text() for name in PAGES)


@pytest.mark.parametrize("tool", ["check_data", "prepare_data"])
def test_who_gives_the_sites_folder_is_told_which_file_is_meant(tool, site_file, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        load_tool(tool).main([str(tmp_path), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    said = f"argument site_file: {tmp_path} is a folder; give {site_file} (--help tells the use)"
    assert capsys.readouterr().err == f"error: {said}\n"
