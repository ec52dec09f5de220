"""What a frontier says of finished runs and of the attacks on them."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mucald.errors import ConfigError
from mucald_studies.attacks.harness.result import AttackResult, Estimate
from mucald_studies.frontier.attacking import Attacked
from mucald_studies.frontier.page import page, write_frontier
from mucald_studies.frontier.points import Point, read_points
from mucald_studies.frontier.row import Row, Strongest, front_of, row_of

STRONGEST = Strongest("decoder.pairs", "north", 1.0, 0.5, 1.5, 0.0, 19.0, True)


def row(name: str, dice: float | None, gain: float | None) -> Row:
    found = None if gain is None else replace(STRONGEST, value=gain, low=gain - 0.2, high=gain + 0.2)
    return Row(name, {"release.t": 300}, dice, 12.3, found, None, None)


def result(attack: str, site: str, metric: str, value: float, last_step: int = 5) -> AttackResult:
    metrics = {metric: Estimate(value, value - 0.1, value + 0.1), "psnr": Estimate(20.0, 19.0, 21.0)}
    anchors = {"blind": {"dice": Estimate(0.3, 0.3, 0.3), "auc": Estimate(0.5, 0.5, 0.5)}}
    curve = ((last_step, 0.1),) if last_step else ()
    return AttackResult(attack, "job", "run", site, (), "test", 4, 0, metrics, anchors, curve)


def made_row(*results: AttackResult) -> Row:
    sites = {"north": {"n_train": 4, "n_validation": 2, "n_test": 2}}
    content = {
        "sites": sites,
        "wire": {"bytes_up": 6000, "bytes_down": 2000},
        "mean": {"test": {"dice": 0.8}},
    }
    attacked = Attacked({(r.attack, r.site): r for r in results}, {("oracle", "north"): "no reason"})
    point = Point("here", {"release.t": 300}, SimpleNamespace())
    return row_of(point, SimpleNamespace(content=content), attacked, max_steps=10)


def test_the_strongest_attack_of_each_kind_over_all_sites_counts():
    found = made_row(
        result("decoder.front_end", "north", "psnr_gain", 1.0),
        result("decoder.front_end", "south", "psnr_gain", 2.0),
        result("averaging.all", "north", "psnr_gain", 1.5),
        result("mask_inference.gradient", "north", "dice", 0.6),
        result("mask_inference.gradient_average", "north", "dice", 0.7),
        result("membership.loss", "north", "auc", 0.55, last_step=0),
    )
    assert (found.reconstruction.attack, found.reconstruction.site) == ("decoder.front_end", "south")
    assert (found.reconstruction.value, found.reconstruction.psnr) == (2.0, 20.0)
    assert (found.masks.attack, found.masks.blind) == ("mask_inference.gradient_average", 0.3)
    assert (found.membership.value, found.membership.blind) == (0.55, 0.5)
    assert found.kb_per_image == 1.0
    assert found.left_out == {"oracle on north": "no reason"}


def test_an_attack_that_its_budget_ended_is_marked():
    ended = made_row(result("decoder.pairs", "north", "psnr_gain", 1.0, last_step=10))
    assert not ended.reconstruction.flat
    assert "decoder.pairs *" in page([ended]).markdown()
    assert made_row(result("decoder.pairs", "north", "psnr_gain", 1.0)).reconstruction.flat
    assert made_row(result("membership.latents", "north", "auc", 1.0, last_step=0)).membership.flat


def test_the_front_holds_what_no_other_point_betters():
    rows = [
        row("worse in both", 0.79, 3.0),
        row("best Dice", 0.9, 5.0),
        row("least gain", 0.7, -0.1),
        row("between", 0.8, 2.0),
        row("same Dice, more gain", 0.8, 2.5),
        row("no Dice", None, 0.0),
        row("no attack", 0.95, None),
    ]
    assert [each.point for each in front_of(rows)] == ["least gain", "between", "best Dice"]
    assert front_of([]) == []
    twins = [row("one", 0.8, 1.0), row("other", 0.8, 1.0)]
    assert len(front_of(twins)) == 1


def test_files_are_written_with_a_row_for_every_point(tmp_path):
    rows = [row("near", 0.8, 1.0), row("far", 0.9, 3.0), row("unknown", None, None)]
    paths = write_frontier(rows, {"base": "tiny"}, tmp_path)
    assert [path.name for path in paths] == ["frontier.json", "frontier.md", "frontier.svg"]
    content = json.loads(paths[0].read_text())
    assert content["base"] == "tiny"
    assert content["pareto"] == ["near", "far"]
    assert [entry["point"] for entry in content["points"]] == ["near", "far", "unknown"]
    assert content["points"][0]["reconstruction"]["value"] == 1.0
    table = paths[1].read_text()
    near = next(line for line in table.splitlines() if "near" in line)
    assert near.startswith("| **near** | 0.800 | decoder.pairs | 19.0 | 1.00 (0.80 … 1.20) |")
    assert "| unknown | – | – | – | – | – | – | 12 |" in table
    assert "figures/frontier.svg" in table


def test_without_any_reconstruction_there_is_a_table_and_no_drawing(tmp_path):
    paths = write_frontier([row("unknown", 0.8, None)], {}, tmp_path)
    assert [path.name for path in paths] == ["frontier.json", "frontier.md"]


@pytest.mark.parametrize(
    ("content", "only", "message"),
    [
        ("{}", (), "no point; write"),
        ("[", (), "points.json"),
        ('{"a": 3}', (), "point 'a' must be an object"),
        ('{"a": {"seed": 3}}', (), "point 'a' sets 'seed', which is the same for all"),
        ('{"a": {"runtime.record": false}}', (), "sets 'runtime.record'"),
        ('{"fresh": {}}', ("frsh",), "no point 'frsh'; did you mean 'fresh'"),
    ],
)
def test_a_file_of_points_that_is_wrong_is_refused_with_the_reason(content, only, message, tmp_path):
    path = tmp_path / "points.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_points(path, only)


def test_points_can_be_chosen(tmp_path):
    path = Path(tmp_path / "points.json")
    path.write_text('{"a": {"release.t": 1}, "b": {}, "c": {}}')
    assert list(read_points(path)) == ["a", "b", "c"]
    assert read_points(path, ["c", "a"]) == {"a": {"release.t": 1}, "c": {}}
