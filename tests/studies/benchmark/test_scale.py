import math

import pytest
from tiny_job import tiny_content

from mucald.errors import ConfigError
from mucald_studies.benchmark.scale import exponent, summary
from mucald_studies.benchmark.synthetic import measure, with_sites


def test_a_power_law_is_found_again():
    counts = [1, 2, 5, 10]
    assert exponent(counts, [3 * count**1.5 for count in counts]) == pytest.approx(1.5)
    assert math.isnan(exponent([5], [1.0]))


def test_synthetic_sites_take_the_tasks_of_the_job_in_turn():
    config = with_sites(tiny_content(), 4)
    assert [site.task for site in config.sites.values()] == ["kvasir", "ham10k", "kvasir", "kvasir"]


def test_a_job_whose_sites_speak_otherwise_is_refused():
    with pytest.raises(ConfigError, match="splitfed"):
        with_sites(tiny_content(release={"mode": "once", "pretraining_epochs": 1}), 2)


def test_rounds_of_synthetic_sites_are_accepted_and_measured():
    found = measure(tiny_content(), count=2, rounds=2, steps=3)
    assert len(found["latency"]) == 2 * 3
    assert len(found["tensors"]) == len(found["resident"]) == 2
    row = summary(found)
    assert 0 < row["p50"] <= row["p95"]
    # Three of the four that are needed are held between steps; gradients are not.
    assert row["tensors"] >= 0.75 * row["needed"] > 0
    assert row["aggregation"] > 0
