"""The command: it runs, attacks, resumes and draws."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from tiny_job import REPOSITORY, tiny_content, write_job

from mucald.config.merge import overridden
from mucald.methods.jobs import load_job, parse_config
from mucald.methods.split.config import HandoverConfig
from mucald_studies.commands import frontier
from mucald_studies.frontier.points import plan_points, read_points

LITTLE = ["--max-steps", "3", "--auxiliary", "12", "--batch", "4", "--width", "8"]
TWO_SITES = {"north": {"task": "kvasir"}, "south": {"task": "ham10k"}}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_job(tmp_path / "jobs/tiny", tiny_content(sites=TWO_SITES, training={"rounds": 1}))


def write_points(folder: Path, **points: dict) -> Path:
    path = folder / "points.json"
    path.write_text(json.dumps({name.replace("_", "-"): changes for name, changes in points.items()}))
    return path


def run(base: Path, points: Path, *options: str) -> int:
    command = ["--base", base, "--points", points, "--out", base.parents[1] / "out", "--sites", "north"]
    return frontier.main([*map(str, command), *options, *LITTLE])


def test_points_are_run_attacked_and_drawn_and_what_is_done_is_not_done_again(base, tmp_path, capsys):
    once = {"release.mode": "once", "release.pretraining_epochs": 1}
    points = write_points(tmp_path, clean={"release.noised": False}, single=once)
    options = ["--attacks", "decoder.front_end", "differencing.change", "membership.latents"]
    assert run(base, points, *options) == 0
    first = capsys.readouterr().out
    assert "runs: 2, finished before: 0" in first
    assert "attacks: 6, made before: 0" in first
    assert "single: differencing.change on north: left out: every training image was released once" in first
    content = json.loads((tmp_path / "out/frontier.json").read_text())
    assert [entry["point"] for entry in content["points"]] == ["clean", "single"]
    assert all(entry["reconstruction"]["attack"] == "decoder.front_end" for entry in content["points"])
    assert all(entry["membership"]["value"] > 0 for entry in content["points"])
    assert list(content["points"][1]["left_out"]) == ["differencing.change on north"]
    assert ">single<" in (tmp_path / "out/figures/frontier.svg").read_text()
    recorded = json.loads((tmp_path / "out/runs/single/seed-7/results.json").read_text())["config"]
    assert (recorded["release"]["mode"], recorded["runtime"]["record"]) == ("once", True)

    assert run(base, points, *options) == 0
    again = capsys.readouterr().out
    assert "runs: 2, finished before: 2" in again
    # What could not be made before, is tried again: it costs nothing.
    assert "attacks: 6, made before: 4" in again
    assert json.loads((tmp_path / "out/frontier.json").read_text()) == content

    assert run(base, points, *options, "--seed", "1", "--only", "clean") == 0
    assert "attacks: 3, made before: 0" in capsys.readouterr().out, "another attacker"


def test_a_point_that_fails_is_told_and_the_others_are_drawn(base, tmp_path, capfd):
    bad = {"optimiser.segmentation": 1e30, "optimiser.clip_norm": 1e30}
    points = write_points(tmp_path, bad=bad, good={})
    assert run(base, points, "--attacks", "oracle", "decoder.pairs") == 1
    output = capfd.readouterr()
    assert "error: bad, seed 7 failed" in output.err
    assert "1 of 2 points are missing" in output.err
    assert "**good**" in (tmp_path / "out/frontier.md").read_text()


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"release.tt": 1}, [], r"error: point 'a': .*no key 'release\.tt'"),
        ({}, ["--attacks", "decodr"], "unknown attack 'decodr'"),
        ({}, ["--only", "b"], "no point 'b'"),
        ({}, ["--max-steps", "0"], "at least 1"),
    ],
)
def test_bad_input_ends_with_a_reason_before_anything_runs(changes, options, message, base, tmp_path, capsys):
    points = write_points(tmp_path, a=changes)
    command = ["--base", base, "--points", points, "--out", tmp_path / "out"]
    assert frontier.main([*map(str, command), *options]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_wrong_base_is_no_fault_of_a_point(tmp_path, capsys):
    assert frontier.main(["--base", str(tmp_path / "nope"), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'nope'} is no job folder: it does not exist\n"


def test_the_base_is_found_wherever_the_command_is_given(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert frontier.main(["--only", "nope", "--out", str(tmp_path / "out")]) == 1
    assert "no point 'nope'" in capsys.readouterr().err


def test_all_points_that_are_shipped_make_valid_jobs(tmp_path):
    points = read_points(frontier.DEFAULT_POINTS)
    planned = plan_points(REPOSITORY / "jobs/mucald_fresh", points, 7, tmp_path, None)
    assert [point.name for point in planned] == list(points)
    assert all(point.experiment.config.runtime.record for point in planned)
    base = load_job(REPOSITORY / "jobs/mucald_fresh")[0].to_dict()
    for point in planned:
        content = parse_config(overridden(base, point.changes))
        assert content.release == point.experiment.config.release


@pytest.mark.parametrize(("name", "job"), [("default", "mucald"), ("strict", "mucald_strict")])
def test_the_points_named_so_are_the_jobs_that_are_shipped_as_such(name, job, tmp_path):
    """But for the hand-over, after which nothing is released."""
    points = read_points(frontier.DEFAULT_POINTS, [name])
    (point,) = plan_points(REPOSITORY / "jobs/mucald_fresh", points, 7, tmp_path, None)
    found, shipped = point.experiment.config, load_job(REPOSITORY / "jobs" / job)[0]
    runtime = dataclasses.replace(shipped.runtime, record=True)
    text = {"name": found.name, "description": found.description}
    assert found == dataclasses.replace(shipped, runtime=runtime, handover=HandoverConfig(), **text)


def test_the_attacks_made_by_default_exist():
    assert frontier.choose_attacks(list(frontier.DEFAULT_ATTACKS))
