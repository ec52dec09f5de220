import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from mucald.config.keys import Section, key, key_of, section
from mucald.config.schema import parse
from mucald.errors import ConfigError


@dataclass(frozen=True)
class Inner(Section):
    share: float = key("a share", 0.5, at_least=0, at_most=1)


@dataclass(frozen=True)
class Outer(Section):
    count: int = key("a count", at_least=1)
    rate: float | None = key("a rate", None, above=0)
    level: float = key("a level", 3.0, above=2)
    args: dict[str, Any] = key("arguments", {})
    inner: Inner = section(Inner)


def test_a_key_without_a_default_must_be_given():
    assert parse(Outer, {"count": 1}) == Outer(1, None, 3.0, {}, Inner(0.5))
    with pytest.raises(ConfigError, match="missing key 'count'"):
        parse(Outer, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"count": 0}, "count must be at least 1, not 0"),
        ({"count": 1, "rate": 0}, r"rate must be positive, not 0\.0"),
        ({"count": 1, "level": 2}, r"level must be above 2, not 2\.0"),
        ({"count": 1, "inner": {"share": 1.1}}, r"'inner': share must be at most 1, not 1\.1"),
        ({"count": 1, "inner": {"share": -0.1}}, r"'inner': share must not be negative, not -0\.1"),
    ],
)
def test_a_value_out_of_bounds_is_named(content, message):
    with pytest.raises(ConfigError, match=message):
        parse(Outer, content)


@pytest.mark.parametrize("content", [{"count": 1, "rate": None}, {"count": 1, "inner": {"share": 1}}])
def test_a_bound_itself_and_null_are_allowed(content):
    assert parse(Outer, content).count == 1


def test_a_default_is_not_shared():
    first, second = parse(Outer, {"count": 1}), parse(Outer, {"count": 1})
    first.args["x"] = 1
    assert second.args == {}


def test_what_is_said_of_a_key_stands_at_its_field():
    said = {field.name: key_of(field) for field in dataclasses.fields(Outer)}
    assert said["inner"] is None
    assert said["count"] is not None
    assert (said["count"].meaning, said["count"].at_least) == ("a count", 1)
