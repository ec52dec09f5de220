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
from mucald.errors import ConfigError, WorkspaceError
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
    with pytest.raises(WorkspaceError, match="has a key of that group; --force replaces it"):
        make_key(north, "two", [certificate(south)])
    make_key(north, "two", [certificate(south)], force=True)
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


@pytest.fixture
def tool(capsys):
    """Run the command; return its status and all that it said on standard error."""
    main = load_tool("group_key").main

    def run(*arguments: object) -> tuple[int, str]:
        try:
            status = main(list(map(str, arguments)))
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, capsys.readouterr().err

    return run


def test_the_tool_makes_and_takes(kit, tool, tmp_path):
    north, south, letter = kit("north"), kit("south"), tmp_path / "letters/two.letter"
    make = ["make", "two", "--kit", north.folder, "--for", certificate(south), "--out", letter]
    take = ["take", letter, "--kit", south.folder, "--from", "north"]
    assert tool(*make) == (0, "")
    assert tool(*take) == (0, "")
    key = key_file(north.home, "two").read_text()
    assert key_file(south.home, "two").read_text() == key
    assert tool(*make)[1] == f"error: {letter} exists; give another place, or --force to write over it\n"
    letter.rename(tmp_path / "first.letter")
    own = f"{key_file(north.home, 'two')} exists: this site has a key of that group; --force replaces it"
    assert tool(*make) == (1, f"error: {own}\n")
    assert not letter.exists()
    assert key_file(north.home, "two").read_text() == key
    assert tool(*make, "--force") == (0, "")
    assert tool(*take)[0] == 1
    assert key_file(south.home, "two").read_text() == key
    assert tool(*take, "--force") == (0, "")
    assert key_file(south.home, "two").read_text() == key_file(north.home, "two").read_text() != key


def test_the_tool_tells_every_mistake_in_one_line(kit, tool, tmp_path):
    south = kit("south")
    (tmp_path / "letter").write_bytes(b"\xff{}")
    for arguments, status, said in (
        (("make",), 2, "the following arguments are required: group, --for, --out, --kit"),
        ((), 2, "the following arguments are required: command"),
        (("give", "x"), 2, "invalid choice: 'give'"),
        (
            ("take", tmp_path / "letter", "--kit", kit(LEAD).folder, "--from", "north"),
            1,
            "the kit of an admin",
        ),
        (("take", tmp_path / "letter", "--kit", south.folder, "--from", "north"), 1, "the letter"),
        (("take", tmp_path / "none", "--kit", south.folder, "--from", "north"), 1, "none: does not exist"),
        (("take", tmp_path, "--kit", south.folder, "--from", "north"), 1, "Is a directory"),
    ):
        found, errors = tool(*arguments)
        assert (found, errors.count("\n")) == (status, 1), errors
        assert errors.startswith("error: ")
        assert said in errors
