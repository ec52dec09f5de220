"""Small image sets on disk for the tests of the data modules."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from image_files import write_pair


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A set of ten pictures in the layout ``pairs``."""
    for index in range(10):
        write_pair(
            tmp_path / f"set/images/{index:02}.png", tmp_path / f"set/masks/{index:02}.png", index, top=255
        )
    return tmp_path / "set"


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a site file and returns the site's home."""

    def write(**content: Any) -> Path:
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        (home / "site.json").write_text(json.dumps(content))
        return home

    return write
