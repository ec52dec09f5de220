import re
import subprocess
import sys

import pytest
from results_files import method, results_like, write_results
from tiny_job import REPOSITORY

from mucald.errors import ReportError
from mucald_studies.attacks.harness.result import AttackResult, Estimate
from mucald_studies.attacks.harness.result import write_results as write_attacks
from mucald_studies.reporting.joining import find_attacks, joining_table
from mucald_studies.reporting.learning_curve import learning_curve
from mucald_studies.reporting.report import report
from mucald_studies.reporting.statistics import compare_all

ALONE = [0.30 + 0.02 * i for i in range(20)]
BETTER = [value + 0.04 + 0.001 * i for i, value in enumerate(ALONE)]
WORSE = [value - 0.02 - 0.001 * i for i, value in enumerate(ALONE)]
WEIGHTS = {
    "kind": "weights",
    "often": "in every round",
    "noise": "none",
    "facts": {"part": "encoder", "epsilon": None},
    "bounds": {},
}


@pytest.fixture
def like(full):
    def make(job, north, south, seed=7, disclosures=(WEIGHTS,), **changes):
        dice = {"north": north, "south": south}
        told = {"privacy__disclosures": list(disclosures), "config__method": "weights"}
        return results_like(full.run.results, job, seed, dice, **told, **changes)

    return make


@pytest.fixture
def alone(like):
    return like("consortium_local", ALONE, ALONE, disclosures=())


def test_a_method_is_told_by_its_worst_site_and_what_it_discloses(like, alone):
    methods = [method(alone), method(like("mixed", BETTER, WORSE)), method(like("good", BETTER, BETTER))]
    gains = compare_all(methods, methods[0], ["north", "south"], ())
    table = joining_table(methods, ["north", "south"], gains, {})
    assert [[str(cell) for cell in row] for row in table.rows] == [
        ["mixed", "weights (encoder, without noise)", "+0.010", "south −0.030", "south", "–"],
        ["good", "weights (encoder, without noise)", "+0.050", "north +0.050", "none", "–"],
    ]
    assert [row[3].bold for row in table.rows] == [False, True]
    assert table.rows[1][2].small.startswith("[+0.0")


def test_the_strongest_attack_on_a_methods_runs_stands_beside_it(like, alone, tmp_path):
    attacked = like("good", BETTER, BETTER)

    def result(site, run_id=attacked["run_id"], **metrics):
        found = {name: Estimate(value, value, value) for name, value in metrics.items()}
        return AttackResult("decoder", "good", run_id, site, (), "train", 4, 0, found, {})

    results = [result("north", psnr_gain=1.5), result("south", psnr_gain=2.5), result("south", auc=0.9)]
    write_attacks(tmp_path / "a/attacks.json", results)
    write_attacks(tmp_path / "b/attacks.json", [result("north", "another", psnr_gain=9.0)])
    methods = [method(alone), method(attacked)]
    gains = compare_all(methods, methods[0], ["north", "south"], ())
    ((*_, cell),) = joining_table(methods, ["north", "south"], gains, find_attacks([tmp_path])).rows
    assert (str(cell), cell.small) == ("2.50 dB over the mean image", "decoder on south")


def test_a_report_begins_with_what_joining_brings(like, alone):
    page = report([method(alone), method(like("good", BETTER, BETTER))], method(alone), False).markdown()
    assert re.findall("(?m)^## (.*)$", page)[:2] == ["What joining brings", "Test Dice"]
    assert "Gain in Dice over training alone (`consortium_local`)" in page
    without = report([method(like("good", BETTER, BETTER))], method(like("good", BETTER, BETTER)), False)
    assert "What joining brings" not in without.markdown()


def of_size(like, alone, folder, size):
    for content in (alone, like("good", [v + 0.001 * size for v in ALONE], BETTER)):
        for site in content["sites"].values():
            site["n_train"] = size
        write_results(folder, content)
    return folder


def test_the_curve_has_a_gain_for_each_number_of_images(like, alone, tmp_path):
    folders = [of_size(like, alone, tmp_path / str(size), size) for size in (20, 10)]
    page = learning_curve(folders)
    text = page.markdown()
    (row,) = re.findall(r"(?m)^\| good \|.*images.*$|^\| good \| \*\*.*$", text)
    first, second = re.findall(r"\*\*\+(0\.\d+)\*\*", row)
    assert (float(first), float(second)) == (pytest.approx(0.030, abs=6e-4), pytest.approx(0.035, abs=6e-4))
    assert re.findall("(?m)^## (.*)$", text) == ["10 training images per site", "20 training images per site"]
    assert b"training images of each site" in page.pictures["learning_curve.svg"].data


def test_folders_that_make_no_curve_are_named(like, alone, tmp_path):
    one = of_size(like, alone, tmp_path / "one", 10)
    with pytest.raises(
        ReportError, match="two: its sites have 10 training images, as those of a folder before"
    ):
        learning_curve([one, of_size(like, alone, tmp_path / "two", 10)])
    write_results(tmp_path / "three", like("good", BETTER, BETTER))
    with pytest.raises(ReportError, match="three has no run in which every site trains alone"):
        learning_curve([tmp_path / "three"])


def test_the_command_writes_the_curve(like, alone, tmp_path):
    folder = of_size(like, alone, tmp_path / "runs", 10)
    command = [sys.executable, REPOSITORY / "tools/learning_curve.py", folder, "--out", tmp_path / "curve"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = {path.relative_to(tmp_path / "curve").as_posix() for path in (tmp_path / "curve").rglob("*.*")}
    assert names == {"learning_curve.md", "learning_curve.html", "figures/learning_curve.svg"}
