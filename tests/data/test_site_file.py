import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mucald.data.records.layouts import find_records
from mucald.data.records.patients import read_patients
from mucald.data.site_file import SiteFile, SplitFractions, noise_secret, read_site_file
from mucald.errors import DataError

GOOD = {"task": "kvasir", "root": "set", "layout": "pairs"}


def test_paths_are_relative_to_the_file(site: Callable[..., Path], tmp_path: Path) -> None:
    home = site(**GOOD)
    assert read_site_file(home / "site.json").root == str(home / "set")
    absolute = site(**{**GOOD, "root": str(tmp_path / "other")})
    assert read_site_file(absolute / "site.json").root == str(tmp_path / "other")


def test_no_path_is_told_with_dots_in_it(site: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "elsewhere/set").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere/set")
    home = site(**{**GOOD, "root": "../data"})
    assert read_site_file(home / "site.json").root == str(home.parent / "data")
    beside_target = site(**{**GOOD, "root": f"{tmp_path}/link/../other"})
    assert read_site_file(beside_target / "site.json").root == str(tmp_path / "elsewhere/other")
    linked = site(**{**GOOD, "root": f"{tmp_path}/link"})
    assert read_site_file(linked / "site.json").root == str(tmp_path / "link")


def test_optional_fields(site: Callable[..., Path]) -> None:
    home = site(
        task="wbc",
        datalist="list.json",
        mask_values={"128": 1, "255": 2},
        split={"validation": 0.1, "test": 0.3},
        max_cases=9,
        tensorboard_images=True,
        noise_secret="0123456789abcdef",
    )
    content = read_site_file(home / "site.json")
    assert content.datalist == str(home / "list.json")
    assert content.value_map == {128: 1, 255: 2}
    assert content.split == SplitFractions(0.1, 0.3)
    assert (content.max_cases, content.tensorboard_images) == (9, True)
    assert "0123456789abcdef" not in repr(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layuot": "pairs"}, r"unknown key 'layuot'; did you mean 'layout'"),
        ({"split": {"valdation": 0.1}}, r"unknown key 'split.valdation'; did you mean 'validation'"),
        ({"task": "kvasr"}, r"unknown task 'kvasr'; did you mean 'kvasir'"),
        ({"task": None}, r"'task' must be of type str"),
        ({"datalist": "x.json"}, r"either 'root' with 'layout', or 'datalist'"),
        ({"layout": None}, r"'root' and 'layout' go together"),
        ({"mask_values": {"255": 2}}, r"'mask_values.255' must map a number to a class id from 0 to 1"),
        ({"mask_values": {"white": 1}}, r"'mask_values.white'"),
        ({"mask_values": {"-0": 1}}, r"'mask_values.-0'"),
        ({"mask_values": {"01": 1}}, r"'mask_values.01'"),
        ({"split": {"validation": 0.6, "test": 0.4}}, r"leave something to train on"),
        ({"split": {"validation": 0.0, "test": 0.4}}, r"must be positive"),
        ({"max_cases": 2}, r"'max_cases' must be at least 3"),
        ({"case_pattern": "d1"}, r"'case_pattern' must be a regular expression with one group"),
        ({"case_pattern": "(d1"}, r"'case_pattern' must be a regular expression with one group"),
        ({"root": "~nobody-here/data"}, r"'root': .* no home folder of ~nobody-here; give the path in full"),
        ({"noise_secret": "short"}, r"'noise_secret' must have at least 16"),
        ({"tensorboard_images": 1}, r"'tensorboard_images' must be of type bool"),
    ],
)
def test_mistakes_are_named(site: Callable[..., Path], change: dict[str, Any], message: str) -> None:
    home = site(**{**GOOD, **change})
    with pytest.raises(DataError, match=message) as caught:
        read_site_file(home / "site.json")
    assert str(home / "site.json") in str(caught.value)
    assert caught.value.public == "the site's data file site.json is wrong"


def test_missing_task_and_broken_json(site: Callable[..., Path]) -> None:
    path = site(root="set", layout="pairs") / "site.json"
    with pytest.raises(DataError, match="missing key 'task'"):
        read_site_file(path)
    path.write_text('{"task": "kvasir",')
    with pytest.raises(DataError, match="not valid JSON"):
        read_site_file(path)


@pytest.mark.parametrize("name", ["site.json", "list.json", "cases.csv", "noise_secret"])
def test_a_pipe_is_refused_before_it_is_opened(name: str, tmp_path: Path) -> None:
    """A test that opened it would wait for ever."""
    os.mkfifo(tmp_path / name)
    reads = {
        "site.json": lambda path: read_site_file(path),
        "list.json": lambda path: find_records(SiteFile("kvasir", datalist=str(path))),
        "cases.csv": lambda path: read_patients(path, "file", "patient"),
        "noise_secret": lambda path: noise_secret(SiteFile(**GOOD), path.parent),
    }
    with pytest.raises((DataError, OSError), match="a pipe, socket or device; give a regular file"):
        reads[name](tmp_path / name)


def test_secret_is_made_once_and_kept_private(tmp_path: Path) -> None:
    site_file = SiteFile(**GOOD)
    first = noise_secret(site_file, tmp_path)
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert noise_secret(site_file, tmp_path) == first
    path = tmp_path / "noise_secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_secrets_of_two_sites_differ(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    assert noise_secret(SiteFile(**GOOD), tmp_path / "a") != noise_secret(SiteFile(**GOOD), tmp_path / "b")


def test_secret_of_the_site_file_wins(tmp_path: Path) -> None:
    assert noise_secret(SiteFile(**GOOD, noise_secret="x" * 16), tmp_path) == "x" * 16
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"\xff" * 40])
def test_damaged_secret_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "noise_secret").write_bytes(content)
    with pytest.raises(DataError, match="delete it and a new one is made"):
        noise_secret(SiteFile(**GOOD), tmp_path)
