"""The key of a group goes from one provisioned site to others, and to nobody else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import load_tool
from loopback_federation import LEAD, provision

from mucald.deploy.group_keys import make_key, take_key
from mucald.deploy.kits import Kit, open_kit
from mucald.errors import ConfigError
from mucald.privacy.sealing import group_key, key_file

SITES = ("north", "south", "west")


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two projects, each with a root of its own."""
    folders = [tmp_path_factory.mktemp(name) for name in ("project", "another")]
    return provision(folders[0], SITES), provision(folders[1], SITES)


@pytest.fixture
def kit(projects: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Kit]:
    monkeypatch.delenv("MUCALD_HOME", raising=False)
    for number, project in enumerate(projects):
        shutil.copytree(project, tmp_path / str(number))
    return lambda name, number=0: open_kit(tmp_path / str(number) / name)


def certificate(of: Kit) -> Path:
    return of.folder / "startup/client.crt"


def test_the_maker_and_those_whom_it_is_for_have_the_same_key(kit):
    north, south, west = (kit(name) for name in SITES)
    letter = make_key(north, "two", [certificate(south), certificate(west)])
    key = key_file(north.home, "two").read_text()
    assert key not in letter
    assert bytes.fromhex(key) not in letter.encode()
    for taker in (south, west):
        assert take_key(taker, letter, "north").read_text() == key
    assert group_key(north.home, "north", "two", 7) == bytes.fromhex(key)
    make_key(north, "two", [certificate(south)])
    assert key_file(north.home, "two").read_text() != key, "another time, another key"


def test_nobody_else_takes_it(kit):
    letter = make_key(kit("north"), "two", [certificate(kit("south"))])
    with pytest.raises(ConfigError, match="for south, not for 'west'"):
        take_key(kit("west"), letter, "north")
    # A site of the same name in another project has another certificate.
    with pytest.raises(ConfigError, match=r"not issued by this project's rootCA\.pem"):
        take_key(kit("south", 1), letter, "north")


def test_a_letter_counts_only_from_the_site_that_is_expected_and_as_it_was_written(kit):
    north, south = kit("north"), kit("south")
    letter = make_key(north, "two", [certificate(south)])
    with pytest.raises(ConfigError, match="is of 'north', not of 'west'"):
        take_key(south, letter, "west")
    forged = json.loads(make_key(kit("west"), "two", [certificate(south)]))
    with pytest.raises(ConfigError, match="is of 'west', not of 'north'"):
        take_key(south, json.dumps(forged), "north")
    with pytest.raises(ConfigError, match="signature is wrong"):
        take_key(south, json.dumps(forged | {"maker": "north"}), "north")
    own = json.loads(letter)
    for change in ({"group": "other"}, {"keys": forged["keys"]}, {"certificate": forged["certificate"]}):
        with pytest.raises(ConfigError, match="signature is wrong"):
            take_key(south, json.dumps(own | change), "north")
    for damaged in ({"certificate": "none"}, {"certificate": None}, {"signature": "§"}):
        with pytest.raises(ConfigError, match="damaged"):
            take_key(south, json.dumps(own | damaged), "north")
    assert not key_file(south.home, "two").exists()


def test_a_key_is_made_for_certificates_of_the_project_alone(kit, tmp_path):
    with pytest.raises(ConfigError, match=r"client.crt was not issued by this project"):
        make_key(kit("north"), "two", [certificate(kit("south", 1))])
    with pytest.raises(ConfigError, match=r"no certificate; each site sends startup/client\.crt"):
        make_key(kit("north"), "two", [tmp_path / "missing.crt"])
    assert not key_file(kit("north").home, "two").exists()


def test_the_tool_makes_and_takes(kit, tmp_path, capsys):
    main = load_tool("group_key").main
    north, south, letter = kit("north"), kit("south"), tmp_path / "two.letter"
    for_south = ["--for", str(certificate(south)), "--out", str(letter)]
    assert main(["make", "two", "--kit", str(north.folder), *for_south]) == 0
    assert main(["take", str(letter), "--kit", str(south.folder), "--from", "north"]) == 0
    assert key_file(north.home, "two").read_text() == key_file(south.home, "two").read_text()
    assert main(["take", str(letter), "--kit", str(kit(LEAD).folder), "--from", "north"]) == 1
    assert "is the kit of a admin" in capsys.readouterr().err
    assert main(["take", str(tmp_path / "none"), "--kit", str(south.folder), "--from", "north"]) == 1
