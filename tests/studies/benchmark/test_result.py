import json
import math

import pytest
from commands import load_tool

from mucald_studies.benchmark.result import Check, Result, aligned, ratio
from mucald_studies.reporting.page import Table


def test_a_limit_is_kept_from_its_own_side():
    assert Check("a", 1.0, 1.0).passed
    assert not Check("a", 1.1, 1.0).passed
    assert Check("a", 3.0, 3.0, at_least=True).passed
    assert not Check("a", 2.9, 3.0, at_least=True).passed


def test_a_ratio_that_is_unknown_keeps_no_limit():
    assert math.isnan(ratio(None, 1.0))
    assert math.isnan(ratio(1.0, 0.0))
    assert not Check("a", math.nan, 1.0).passed
    assert not Check("a", math.nan, 1.0, at_least=True).passed


def test_the_file_says_what_passed_and_holds_no_number_that_json_lacks(tmp_path):
    checks = [Check("fine", 0.5, 1.0), Check("unknown", math.nan, 1.0)]
    path = Result("step", {"x": 1.0}, {}, checks).write(tmp_path / "out", {"job": "tiny"})
    content = json.loads(path.read_text())
    assert [check["passed"] for check in content["checks"]] == [True, False]
    assert content["checks"][1]["value"] is None
    assert content["machine"]["cores"] > 0
    assert content["figures"] == {"x": 1.0}
    assert content["settings"] == {"job": "tiny"}


@pytest.mark.parametrize("home", [[], ["--home", "anywhere/sites"]])
def test_the_command_writes_what_was_asked_for_and_of_folders_the_names(home, tmp_path, monkeypatch):
    bench = load_tool("bench")
    _, options = bench.MEASURES["plain"]
    monkeypatch.setitem(bench.MEASURES, "plain", (lambda _: Result("plain", {}, {}), options))
    assert bench.main(["plain", "--job", "anywhere/tiny", *home, "--out", str(tmp_path)]) == 0
    settings = json.loads((tmp_path / "plain.json").read_text())["settings"]
    expected = {"job": "tiny", "home": "sites" if home else None, "seeds": [7], "threads": None, "set": []}
    assert settings == expected


def test_a_failed_limit_is_printed_as_such():
    text = Result("step", {}, {"title": Table(["a", "b"], [["x", "1"]])}, [Check("c", 2.0, 1.0)]).text()
    assert "FAIL" in text
    assert text.startswith("title\n")


def test_columns_are_aligned():
    lines = aligned(Table(["name", "value"], [["short", "1"], ["a longer one", "12.5"]])).splitlines()
    assert len({len(line) for line in lines}) == 1
