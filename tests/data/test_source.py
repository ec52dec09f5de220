"""What a site is said to train on before a run."""

import json

import pytest
from tiny_job import tiny_config

from mucald.data.loading import load_for
from mucald.data.source import data_line
from mucald.errors import DataError
from mucald.privacy.policy import DEFAULT, read_policy
from mucald.privacy.sealing import group_key

PHANTOMS = "site 'north' trains on phantoms of kvasir (4 to train, 2 to validate, 2 to test): there is no "


@pytest.mark.parametrize(
    ("there", "hint"),
    [
        ((), ""),
        (("north/noise_secret",), ""),
        (("north/site.json.txt",), " (there is site.json.txt)"),
        (("north/Site.json",), " (there is Site.json)"),
        (("North/site.json",), " (there is North)"),
        (("south/site.json",), ""),
    ],
)
def test_phantoms_are_said_with_the_file_that_is_missing_and_what_is_there_instead(there, hint, tmp_path):
    for name in there:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    home = tmp_path / "north"
    assert data_line("north", tiny_config(), home) == f"{PHANTOMS}{home / 'site.json'}{hint}"


def test_a_set_is_said_with_its_layout_its_folder_and_the_number_of_its_images(pairs, site):
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    said = data_line("north", tiny_config(), home)
    counts = "6 to train, 2 to validate, 2 to test"
    assert said == f"site 'north' trains on images of kvasir ({counts}): those of {pairs}, layout pairs"


def test_a_data_list_is_named(pairs, site):
    entries = [{"image": f"images/{i:02}.png", "label": f"masks/{i:02}.png"} for i in range(10)]
    (pairs / "list.json").write_text(json.dumps({"training": entries}))
    said = data_line("north", tiny_config(), site(task="kvasir", datalist=str(pairs / "list.json")))
    assert said.endswith(f"(6 to train, 2 to validate, 2 to test): those of {pairs / 'list.json'}")


@pytest.mark.parametrize("link", ["site.json", "."])
def test_a_link_that_leads_nowhere_is_no_reason_for_phantoms(link, tmp_path):
    home = tmp_path / "north"
    if link == ".":
        home.symlink_to("/nowhere/share")
    else:
        home.mkdir()
        (home / link).symlink_to("/nowhere/share/site.json")
    said = data_line("north", tiny_config(), home)
    assert said.startswith(f"site 'north' has nothing to train on: {home}/site.json: ")
    assert read_policy(home, "north") == DEFAULT
    with pytest.raises(DataError, match=r"site.json"):
        load_for("north", tiny_config(), home, pictures=False)
    with pytest.raises(DataError, match="has no key"):
        group_key(home, "north", "all", seed=1)


def test_what_cannot_be_read_is_said_and_ends_nothing(pairs, site, monkeypatch):
    said = data_line("north", tiny_config(), site(task="kvasir", root="/nowhere", layout="pairs"))
    assert said.startswith("site 'north' has nothing to train on: /nowhere/images: no such folder")
    home = site(task="kvasir", root=str(pairs), layout="pairs")
    monkeypatch.setattr("mucald.data.source.find_records", lambda _: {}[["unhashable"]])
    assert f"nothing to train on: {home}: cannot be read (TypeError" in data_line(
        "north", tiny_config(), home
    )
