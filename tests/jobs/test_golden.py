"""Every job gives the numbers that it gave, see ``golden.py``."""

import dataclasses
import json
from typing import Any

import pytest
from golden import FILE, agreed, difference, facts, text
from shrunk_jobs import JOBS, shrunk
from tiny_job import run_job

GOLDEN: dict[str, dict[str, Any]] = json.loads(FILE.read_text())
pytestmark = pytest.mark.xdist_group("jobs")


def test_every_job_has_its_numbers_and_no_other():
    assert list(GOLDEN) == [job.name for job in JOBS]
    assert text(GOLDEN) == FILE.read_text()


@pytest.mark.parametrize("job", GOLDEN)
def test_a_job_gives_the_numbers_that_it_gave(job, seen):
    run = seen(job).recording.run
    assert difference(GOLDEN[job], facts(run.results, run.models())) == {}


@pytest.mark.parametrize("job", ["mucald", "baseline_splitfed", "baseline_centralized"])
def test_a_job_with_another_seed_gives_others(job, tmp_path):
    config = shrunk(job)
    run = run_job(dataclasses.replace(config, seed=config.seed + 1), tmp_path)
    wrong = difference(GOLDEN[job], facts(run.results, run.models()))
    assert {name for name in wrong if name.startswith("norm/")}
    assert {name for name in wrong if name.startswith("round 0/losses/")}
    assert not {name for name in wrong if "/n_" in name or "/bytes/" in name}


def test_what_runs_agree_on_is_kept_with_ten_times_their_spread():
    runs = [
        {"bytes": 3, "loss": 1.0, "sure": 1.0, "flips": 1, "none": None, "zero": 0.0, "exact": 2.0},
        {"bytes": 3, "loss": 1.001, "sure": 1.5, "flips": 2, "none": None, "zero": 0.0, "exact": 2.0},
    ]
    kept = agreed(runs)
    assert kept.keys() == {"bytes", "loss", "none", "zero", "exact"}
    assert (kept["bytes"], kept["none"], kept["zero"]) == (3, None, [0.0, 0.0])
    assert kept["loss"] == pytest.approx([1.0, 0.01])
    assert kept["exact"] == pytest.approx([2.0, 0.006])
    assert agreed([{"norm/middle": 2.0}] * 2) == {"norm/middle": [2.0, 0.001]}
    assert agreed([{"round 0/gradients/middle": 2.0}] * 2) == {"round 0/gradients/middle": [2.0, 0.02]}


def test_a_number_beyond_its_tolerance_or_missing_is_told():
    expected = {"loss": [1.0, 0.1], "bytes": 3, "none": None}
    assert difference(expected, {"loss": 1.09, "bytes": 3, "none": None, "more": 1}) == {}
    assert difference(expected, {"loss": 1.11, "bytes": 4, "none": 0.5}) == {
        "loss": (1.11, [1.0, 0.1]),
        "bytes": (4, 3),
        "none": (0.5, None),
    }
    assert difference(expected, {"loss": float("nan")}).keys() == expected.keys()
    assert difference(expected, {}).keys() == expected.keys()
