import sys

import pytest

from mucald.errors import TrainingError
from mucald_studies.benchmark.processes import Watched, execute
from mucald_studies.benchmark.run import (
    BARE,
    IN_PROCESS,
    PARALLEL,
    Measured,
    Outcome,
    measured,
    peaks_by_process,
    report,
)

SITES = ["north", "south", "west"]


def test_times_are_told_apart():
    timing = {"wall_s": 20.0, "first_step_s": 2.0, "round_ends_s": [8.0, 18.0], "tasks_s": 15.0}
    results = {
        "timing": timing,
        "config": {"training": {"local_epochs": 1}},
        "sites": {site: {"n_train": 4} for site in SITES},
    }
    found = measured(Outcome(results, Watched(seconds=30.0), ending=3.0), SITES)
    assert found == Measured(
        whole=30.0,
        first_step=9.0,
        steady=12.0,
        rounds=10.0,
        ending=3.0,
        tasks=15.0,
        images_per_s=pytest.approx(3 * 4 / 10),
        peaks={},
    )


def test_peaks_belong_to_the_participant_whose_process_it_is():
    commands = {
        1: ["python", "simulator"],
        2: ["worker", "-o", "/ws/north"],
        3: ["worker", "--client", "south"],
        4: ["worker", "/ws/north"],
    }
    seen = Watched(1.0, {1: 10, 2: 20, 3: 30, 4: 25}, commands)
    assert peaks_by_process(seen, SITES) == {"server": 10, "north": 25, "south": 30}


def test_the_ratios_are_of_medians():
    def runs(*seconds):
        return [
            Measured(whole, 1.0, steady, 1.0, 0.0, tasks, 1.0, {"server": 1})
            for whole, steady, tasks in seconds
        ]

    found = {
        IN_PROCESS: runs((10, 8, 7), (20, 10, 9), (90, 90, 80)),
        BARE: runs((60, 50, 32)),
        PARALLEL: runs((20, 12, 50)),
    }
    federated, bare = report(found).checks
    assert federated.value == pytest.approx(12 / 10)
    assert not federated.passed
    assert bare.value == pytest.approx(32 / 20)
    assert not bare.passed


def test_a_command_is_watched_with_what_it_starts(tmp_path):
    inner = "import time; block = bytearray(60_000_000); time.sleep(0.6)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    seen = execute([sys.executable, "-c", outer], {}, tmp_path / "log.txt")
    assert len(seen.peaks) == 2
    assert max(seen.peaks.values()) > 60_000_000
    assert seen.seconds >= 0.6


def test_a_command_that_fails_is_told_with_its_own_words(tmp_path):
    with pytest.raises(TrainingError, match="no such luck"):
        execute([sys.executable, "-c", "raise SystemExit('no such luck')"], {}, tmp_path / "log.txt")
