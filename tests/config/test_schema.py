import json
from dataclasses import dataclass
from typing import Literal

import pytest

from mucald.config.schema import parse, read_json
from mucald.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    size: int
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    mode: Literal["fast", "slow"]
    on: bool
    widths: tuple[int, ...]
    parts: dict[str, Inner]
    limit: int | None = None

    def __post_init__(self) -> None:
        if not self.widths:
            raise ValueError("widths must not be empty")


GOOD = {"name": "a", "mode": "fast", "on": True, "widths": [1, 2], "parts": {"x": {"size": 3}}}


def test_reads_nested_values_and_defaults():
    outer = parse(Outer, GOOD)
    assert outer == Outer("a", "fast", True, (1, 2), {"x": Inner(3, 0.5)}, None)
    assert parse(Outer, GOOD | {"limit": 4}).limit == 4


def test_an_integer_passes_for_a_float_but_true_does_not_pass_for_an_integer():
    assert parse(Inner, {"size": 1, "rate": 2}).rate == 2.0
    with pytest.raises(ConfigError, match="'size' must be of type int, not true"):
        parse(Inner, {"size": True})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "a"}, "unknown key 'nmae'; did you mean 'name'"),
        ({"mode": "fsat"}, "'mode' must be one of .* did you mean 'fast'"),
        ({"on": 1}, "'on' must be of type bool"),
        ({"widths": [1, "2"]}, r"'widths\[1\]' must be of type int"),
        ({"widths": []}, "widths must not be empty"),
        ({"parts": {"x": {"sise": 3}}}, "unknown key 'parts.x.sise'; did you mean 'size'"),
        ({"parts": {"x": {}}}, "missing key 'parts.x.size'"),
        ({"parts": {"x": {"size": 1, "rate": float("nan")}}}, "'parts.x.rate' must be a finite number"),
        ({"parts": [1]}, "'parts' must be of type"),
        ({"limit": "4"}, "'limit' must be of type int"),
    ],
)
def test_names_the_key_that_is_wrong(change, message):
    with pytest.raises(ConfigError, match=message):
        parse(Outer, GOOD | change)


def test_a_missing_key_is_named():
    with pytest.raises(ConfigError, match="missing key 'name'"):
        parse(Outer, {key: value for key, value in GOOD.items() if key != "name"})


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"not found: job\.json"):
        read_json(tmp_path / "job.json")
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(ConfigError, match=r"job\.json is not valid JSON"):
        read_json(tmp_path / "job.json")
    (tmp_path / "job.json").write_text(json.dumps([1]))
    with pytest.raises(ConfigError, match="must hold a JSON object, not list"):
        read_json(tmp_path / "job.json")
