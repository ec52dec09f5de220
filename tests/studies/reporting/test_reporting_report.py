import json
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from results_files import method, results_like, write_results
from tiny_job import REPOSITORY

from mucald.errors import ReportError
from mucald.metrics.segmentation import telling_images
from mucald_studies.reporting.comparability import sample_size
from mucald_studies.reporting.pictures import run_folder, site_examples
from mucald_studies.reporting.report import report as page_of
from mucald_studies.reporting.runs import Method, find_runs, read_run
from mucald_studies.reporting.tables import amount, signed, spread

RISING = [0.3 + 0.02 * i for i in range(20)]
BETTER = [value + 0.05 + 0.001 * i for i, value in enumerate(RISING)]


@pytest.fixture
def like(full):
    def make(job="mucald", seed=7, north=RISING, south=RISING, **changes):
        return results_like(full.run.results, job, seed, {"north": north, "south": south}, **changes)

    return make


def report(*methods, allow=False):
    return page_of(methods, methods[0], allow)


def headings(page):
    return re.findall("(?m)^#+ (.*)$", page.markdown())


def table(page, heading):
    """Return the first table after a heading: its columns, and its rows by their first cell."""
    after = re.split(f"(?m)^#+ {re.escape(heading)}$", page.markdown())[1]
    lines = re.search(r"((?:^\|.*\n)+)", after, re.MULTILINE)[1].splitlines()
    columns, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines)
    return columns, {row[0]: row[1:] for row in rows}


def bold(cells):
    return [cell.startswith("**") for cell in cells]


def warnings(page):
    return re.findall(r"(?m)^> \*\*Note:\*\* (.*)$", page.markdown())


def test_dice_is_mean_and_deviation_over_seeds(like):
    page = report(method(like(north=[0.5, 0.7]), like(seed=8, north=[0.6, 1.0])))
    columns, rows = table(page, "Test Dice")
    assert columns == ["method", "mean", "north", "south"]
    assert rows["mucald"][1] == "0.700 ± 0.141"
    assert warnings(page) == []


def test_the_budget_names_what_the_network_takes_of_each_task(like):
    assert "16 × 16 pixels." in report(method(like())).markdown()
    volumes = like(
        sites__north__task="liver", config__data__volumes__plans={"liver": {"patch_size": [24, 24, 16]}}
    )
    assert "patches of 24 × 24 × 16 voxels, 16 × 16 pixels." in report(method(volumes)).markdown()
    whole = like(config__data__volumes__phantom_size=[32, 24, 16])
    assert sample_size(method(whole).first, "liver_lesion") == [32, 24, 16]
    other = like("other", sites__north__task="liver", config__data__volumes__patch_size=[32, 32, 16])
    with pytest.raises(ReportError, match=r"size of volumes {'liver': \[32, 32, 16\]} instead of"):
        report(method(volumes), method(other))


def test_bold_is_what_the_test_calls_better_and_nothing_else(like):
    page = report(method(like()), method(like("own", north=BETTER)), method(like("worse", south=[0.1] * 20)))
    _, rows = table(page, "Test Dice")
    assert bold(rows["mucald"]) == [False, False, False]
    assert bold(rows["own"]) == [True, True, False]
    assert bold(rows["worse"]) == [False, False, False]
    _, differences = table(page, "Difference to mucald")
    assert set(differences) == {"own", "worse"}
    # Six tests; the exact p of 20 positive differences is 2/2^20.
    assert differences["own"][1].startswith("**+0.060, p < 0.001**<br>[")
    assert differences["own"][2].startswith("+0.000, p = 1.000<br>[")
    assert differences["worse"][2].startswith("−0.390, p < 0.001<br>[")
    _, north = table(page, "north (kvasir)")
    assert bold(north["own"]) == [True] + [False] * 6


def test_methods_of_another_budget_are_refused_or_marked_and_not_tested(like):
    short = method(like("short", north=BETTER, config__training__rounds=1))
    with pytest.raises(ReportError, match="passes over the images 1 instead of 2"):
        report(method(like()), short)
    page = report(method(like()), short, allow=True)
    _, rows = table(page, "Test Dice")
    assert not any(bold(rows["short †"]))
    assert any("short † cannot be compared" in text and "images 1 instead" in text for text in warnings(page))
    assert "Difference to mucald" not in headings(page)
    assert "† other data or another budget" in page.markdown()
    assert "short&nbsp;†" in page.html()


def test_the_gain_over_each_site_alone_is_told_if_there_is_a_run_of_it(like):
    alone = method(like("alone", config__aggregation__rule="local"))
    page = report(method(like(north=BETTER)), alone, method(like("worse", south=[0.1] * 20)))
    columns, gains = table(page, "Gain over each site alone")
    assert columns == ["method", "mean", "north", "south"]
    assert set(gains) == {"mucald", "worse"}
    difference, interval = gains["mucald"][1].split("<br>")
    assert difference == "**+0.060, p < 0.001**"
    low, high = (float(each) for each in interval.strip("[]").split(", "))
    assert low < 0.0595 < high
    assert gains["worse"][2].startswith("−0.390, p < 0.001")
    assert "Difference to mucald" in headings(page)
    for others in ((method(like("other")),), (alone,)):
        without = report(others[0], *(() if others[0] is not alone else (method(like()),)))
        assert "Gain over each site alone" not in without.markdown()


def test_the_factors_that_sites_chose_are_means_over_rounds_and_seeds(like):
    def choice(encoder, decoder, loss, alone):
        return {"factors": {"encoder": encoder, "decoder": decoder}, "loss": loss, "loss_alone": alone}

    first, second = like(), like(seed=8)
    first["sites"]["north"]["aggregation"] = [choice(1.0, 0.0, 0.5, 0.75), choice(0.5, 0.0, 0.5, 0.75)]
    second["sites"]["north"]["aggregation"] = [choice(0.0, 0.75, 0.5, 0.5)]
    page = report(method(first, second), method(like("plain")))
    _, rows = table(page, "How much sites take over")
    assert rows == {"mucald": ["encoder 0.50, decoder 0.25 (0.1667)", "–"]}
    assert "How much sites take over" not in report(method(like())).markdown()


def test_failures_uneven_seeds_and_a_single_seed_are_said(like):
    failure = {"site": "south", "round": 1, "reason": "disk full"}
    page = report(method(like(failures=[failure])), method(like("own"), like("own", seed=8)))
    said = " ".join(warnings(page))
    assert "site 'south' was left out of round 2: disk full" in said
    assert "Not the same seeds as mucald: own" in said
    assert "One seed" in said


def disclosed(kind, noise, facts=(), bounds=()):
    return {"kind": kind, "often": "often", "noise": noise, "facts": dict(facts), "bounds": dict(bounds)}


def of_family(content, method, *disclosures):
    """Return a run's results as another family of methods would leave them."""
    content["config"] |= {"method": method}
    for section in ("release", "crdm", "aggregation"):
        del content["config"][section]
    content["privacy"]["disclosures"] = [disclosed("scores", "none"), *disclosures]
    for site in content["sites"].values():
        site.pop("server_contribution")
    del content["mean"]["server_contribution"]
    return content


def test_what_leaves_is_told_by_kind_of_whatever_family(like):
    weights = disclosed("weights", "none", {"part": "whole network", "epsilon": None})
    fedavg = method(of_family(like("fedavg"), "weights", weights))
    pooled = method(of_family(like("pooled"), "pooled"))
    page = report(method(like()), fedavg, pooled)
    columns, rows = table(page, "Privacy")
    assert columns[1:] == ["data stay at the sites", "latents", "feature gradients", "proxies", "weights"]
    latents, proxies = (rows["mucald"][columns.index(kind) - 1] for kind in ("latents", "proxies"))
    assert latents.startswith("Gaussian, SNR 0.165 on each of 256 numbers<br>2 × per train image")
    assert "cut 1" in latents
    assert re.search(r"guarantee: none \(ε [\d.]+\) for train", latents)
    assert proxies == "Gaussian, 0.5 standard deviations<br>once per run; noise 0.5; guarantee: none"
    weights = "WITHOUT noise<br>often; part whole network, epsilon –; guarantee: none"
    assert rows["fedavg"] == ["yes", "–", "–", "–", weights]
    assert rows["pooled"] == ["NO", "–", "–", "–", "–"]
    _, added = table(page, "What the server adds")
    assert set(added) == {"mucald"}
    assert "What the server adds" not in headings(report(fedavg))
    assert "Gain over each site alone" not in headings(page)


@pytest.mark.parametrize(
    ("disclosures", "noised"),
    [
        ([disclosed("latents", "Gaussian"), disclosed("feature gradients", "none")], True),
        ([disclosed("latents", "none")], False),
        ([disclosed("latents", "Gaussian"), disclosed("weights", "none")], False),
    ],
)
def test_noised_is_what_has_noise_on_all_that_is_made_of_images(like, disclosures, noised):
    run = method(of_family(like(), "split", *disclosures)).first
    assert run.noised is noised
    assert not method(of_family(like(), "pooled", *disclosures)).first.noised


def test_a_site_is_alone_where_nothing_is_combined_or_nothing_leaves(like):
    weights = disclosed("weights", "none")
    assert not method(like()).first.alone
    assert method(like(config__aggregation={"rule": "local", "args": {}, "statistics": False})).first.alone
    assert method(of_family(like(), "weights")).first.alone
    assert not method(of_family(like(), "weights", weights)).first.alone
    assert not method(of_family(like(), "pooled")).first.alone


@pytest.mark.parametrize("algorithm", ["groups", "splitfed_v2", "mocha", "scaffold", "fedper"])
def test_with_the_rule_local_sites_may_learn_from_each_other_by_the_algorithm(algorithm, like):
    local = {"rule": "local", "args": {}, "statistics": False}
    assert method(like(config__aggregation=local)).first.alone
    assert not method(like(config__aggregation=local, config__algorithm__name=algorithm)).first.alone


def test_methods_of_other_families_are_compared_where_data_and_budget_are_the_same(like):
    fedavg = method(of_family(like("fedavg"), "weights", disclosed("weights", "none")))
    assert "fedavg" in table(report(method(like()), fedavg), "Difference to mucald")[1]
    with pytest.raises(ReportError, match="fedavg: passes over the images"):
        report(method(like(config__release__pretraining_epochs=12)), fedavg)


def test_cost_has_its_columns(like):
    columns, rows = table(report(method(like())), "Wire and time")
    megabytes = like()["wire"]["bytes_up"] / 1e6
    assert float(rows["mucald"][columns.index("up [MB]") - 1]) == pytest.approx(megabytes, rel=0.01)


def test_what_the_server_adds(like):
    contents = (
        like(sites__north__server_contribution=0.25),
        like(seed=8, sites__north__server_contribution=None),
    )
    _, rows = table(report(method(*contents)), "What the server adds")
    assert rows["mucald"][1] == "+0.250"


def test_classes_are_shown_where_there_are_several(like):
    classes = {
        name: like()["sites"]["north"]["test"]["per_class"]["polyp"] for name in ("background", "one", "two")
    }
    classes = {name: values | {"dice": 0.1 * i} for i, (name, values) in enumerate(classes.items())}
    content = like()
    content["sites"]["north"]["test"]["per_class"] = classes
    text = report(method(content)).markdown()
    assert "| method | one | two |\n| :--- | ---: | ---: |\n| mucald | 0.100 | 0.200 |" in text


def test_numbers_as_text():
    assert spread([], "dice") == "–"
    assert spread([0.5], "dice") == "0.500"
    assert spread([3.0, 5.0], "hd95") == "4.0 ± 1.4"
    assert signed([-0.01, -0.03]) == "−0.020 ± 0.014"
    assert [amount([value], 1) for value in (0, 0.0001, 0.0123, 1.234, 56.78, 1234.5)] == [
        "0",
        "< 0.001",
        "0.0123",
        "1.23",
        "56.8",
        "1,234",
    ]


def test_best_median_and_worst_image():
    assert telling_images([0.5, None, 0.9, 0.1, 0.7]) == [2, 0, 3]
    assert telling_images([0.5, 0.5]) == [0, 1]
    assert telling_images([None, 0.4]) == [1]
    assert telling_images([None]) == []


def test_examples_come_from_the_sites_own_folders(full):
    run = read_run(full.run.server / "results.json")
    assert run_folder(run) == full.run.folder / "results"
    examples = site_examples(run, "south")
    dice = run.sites["south"]["dice_per_image"]
    chosen = zip(("best", "median", "worst"), telling_images(dice), strict=False)
    assert [example.caption for example in examples] == [f"{n}: Dice {dice[i]:.3f}" for n, i in chosen]
    assert examples[0].name == "south-best.png"
    assert Image.open(BytesIO(examples[0].data)).size == (3 * 16 + 2, 16)


def test_the_report_shows_examples_or_says_that_there_are_none(full, tmp_path):
    (run,) = find_runs([full.run.folder / "results"])
    page = report(Method("tiny", {run.seed: run}))
    assert "Not shown" not in page.markdown()
    shown = [name.partition("-")[0] for name in page.pictures if name.endswith(".png")]
    assert list(dict.fromkeys(shown)) == ["north", "south", "west"]
    alone = tmp_path / "results.json"
    alone.write_text(json.dumps(run.content))
    page = report(Method("tiny", {run.seed: read_run(alone)}))
    assert "Not shown: pictures of north, south, west." in page.markdown()
    assert list(page.pictures) == ["scores.svg", "validation.svg"]


def test_written_files_are_all_that_is_named(like, tmp_path):
    report(method(like()), method(like("own"))).write(tmp_path, "report.md", "report.html")
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"report.md", "report.html", "figures/scores.svg", "figures/validation.svg"}
    text = (tmp_path / "report.md").read_text()
    assert "](figures/scores.svg)" in text
    assert "](figures/validation.svg)" in text


def run_tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, REPOSITORY / "tools/report.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_writes_a_report_or_gives_the_reason(like, tmp_path):
    write_results(tmp_path / "runs", like())
    write_results(tmp_path / "runs", like("own", config__data__image_size=32))
    refused = run_tool(tmp_path / "runs", "--out", tmp_path / "report")
    assert refused.returncode == 1
    assert "own: image_size 32 instead of 16" in refused.stderr
    assert not (tmp_path / "report").exists()
    done = run_tool(tmp_path / "runs", "--out", tmp_path / "report", "--allow-different-budgets")
    assert done.returncode == 0, done.stderr
    assert "own&nbsp;†" in (tmp_path / "report/report.html").read_text()
