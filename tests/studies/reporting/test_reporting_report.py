import json
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
from mucald_studies.reporting.document import Heading, Paragraph, Pictures, Table
from mucald_studies.reporting.pictures import run_folder, site_examples
from mucald_studies.reporting.report import Report, write_report
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
    return Report(methods, methods[0], allow).document()


def table(document, heading):
    """Return the first table after a heading, its rows by their first cell."""
    blocks = iter(document.blocks)
    next(block for block in blocks if isinstance(block, Heading) and block.text == heading)
    found = next(block for block in blocks if isinstance(block, Table))
    return found.columns, {getattr(row[0], "text", row[0]): row[1:] for row in found.rows}


def warnings(document):
    return [
        block.text for block in document.blocks if isinstance(block, Paragraph) and block.kind == "warning"
    ]


def test_dice_is_mean_and_deviation_over_seeds(like):
    document = report(method(like(north=[0.5, 0.7]), like(seed=8, north=[0.6, 1.0])))
    columns, rows = table(document, "Test Dice")
    assert columns == ["method", "mean", "north", "south"]
    assert rows["mucald"][1].text == "0.700 ± 0.141"
    assert warnings(document) == []


def test_bold_is_what_the_test_calls_better_and_nothing_else(like):
    document = report(
        method(like()), method(like("own", north=BETTER)), method(like("worse", south=[0.1] * 20))
    )
    _, rows = table(document, "Test Dice")
    bold = {name: [cell.bold for cell in row] for name, row in rows.items()}
    assert bold["mucald"] == [False, False, False]
    assert bold["own"] == [True, True, False]
    assert bold["worse"] == [False, False, False]
    _, differences = table(document, "Difference to mucald")
    assert set(differences) == {"own", "worse"}
    # Six tests; the exact p of 20 positive differences is 2/2^20.
    assert differences["own"][1].text == "+0.060, p < 0.001"
    assert differences["own"][2].text == "+0.000, p = 1.000"
    assert differences["worse"][2].text.startswith("−0.390, p < 0.001")
    _, north = table(document, "north (kvasir)")
    assert [cell.bold for cell in north["own"]] == [True] + [False] * 6


def test_methods_of_another_budget_are_refused_or_marked_and_not_tested(like):
    short = method(like("short", north=BETTER, config__training__rounds=1))
    with pytest.raises(ReportError, match="rounds 1 instead of 2"):
        report(method(like()), short)
    document = report(method(like()), short, allow=True)
    _, rows = table(document, "Test Dice")
    assert not any(cell.bold for cell in rows["short †"])
    assert any("short † cannot be compared" in text and "rounds 1" in text for text in warnings(document))
    assert "Difference to mucald" not in [b.text for b in document.blocks if isinstance(b, Heading)]
    assert "† other data or another budget" in document.markdown()
    assert "short †" in document.html()


def test_the_gain_over_each_site_alone_is_told_if_there_is_a_run_of_it(like):
    alone = method(like("alone", config__aggregation__rule="local"))
    document = report(method(like(north=BETTER)), alone, method(like("worse", south=[0.1] * 20)))
    columns, gains = table(document, "Gain over each site alone")
    assert columns == ["method", "mean", "north", "south"]
    assert set(gains) == {"mucald", "worse"}
    assert gains["mucald"][1].text == "+0.060, p < 0.001"
    low, high = (float(each) for each in gains["mucald"][1].small.strip("[]").split(", "))
    assert low < 0.0595 < high
    assert gains["worse"][2].text.startswith("−0.390, p < 0.001")
    assert "Difference to mucald" in [b.text for b in document.blocks if isinstance(b, Heading)]
    for others in ((method(like("other")),), (alone,)):
        without = report(others[0], *(() if others[0] is not alone else (method(like()),)))
        assert "Gain over each site alone" not in without.markdown()


def test_the_factors_that_sites_chose_are_means_over_rounds_and_seeds(like):
    def choice(encoder, decoder, loss, alone):
        return {"factors": {"encoder": encoder, "decoder": decoder}, "loss": loss, "loss_alone": alone}

    first, second = like(), like(seed=8)
    first["sites"]["north"]["aggregation"] = [choice(1.0, 0.0, 0.5, 0.75), choice(0.5, 0.0, 0.5, 0.75)]
    second["sites"]["north"]["aggregation"] = [choice(0.0, 0.75, 0.5, 0.5)]
    document = report(method(first, second), method(like("plain")))
    _, rows = table(document, "How much sites take over")
    assert rows == {"mucald": ["encoder 0.50, decoder 0.25 (0.1667)", "–"]}
    assert "How much sites take over" not in report(method(like())).markdown()


def test_failures_uneven_seeds_and_a_single_seed_are_said(like):
    failure = {"site": "south", "round": 1, "reason": "disk full"}
    document = report(method(like(failures=[failure])), method(like("own"), like("own", seed=8)))
    said = " ".join(warnings(document))
    assert "site 'south' was left out of round 2: disk full" in said
    assert "Not the same seeds as mucald: own" in said
    assert "One seed" in said


def test_privacy_and_cost_have_their_columns(like):
    plain = {"noised": False, "supervision": None, "t_release": None, "snr": None}
    clean = like("clean")
    clean["privacy"] |= plain | {"latent_recoverable_by_server": True, "data_pooled": True}
    document = report(method(like()), method(clean))
    columns, rows = table(document, "Privacy")
    assert dict(zip(columns[1:], rows["mucald"], strict=True)) == {
        "data stay at the sites": "yes",
        "noised": "yes",
        "t": "300",
        "SNR": "0.165",
        "supervision": "sure",
        "server can recover the latent": "no",
        "releases per training image": "2",
        "proxy noise": "0.5",
    }
    assert rows["clean"][:2] == ["NO", "NO"]
    assert rows["clean"][5] == "YES"
    columns, rows = table(document, "Wire and time")
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
    blocks = report(method(like(sites__north__test__per_class=classes))).blocks
    found = [
        block for block in blocks if isinstance(block, Table) and block.columns == ["method", "one", "two"]
    ]
    assert [cells[1:] for cells in found[0].rows] == [["0.100", "0.200"]]


def test_numbers_as_text():
    assert spread([], "dice") == "–"
    assert spread([0.5], "dice") == "0.500"
    assert spread([3.0, 5.0], "hd95") == "4.0 ± 1.4"
    assert signed([-0.01, -0.03]) == "−0.020 ± 0.014"
    assert [amount([value], 1) for value in (0, 0.0123, 1.234, 56.78, 1234.5)] == [
        "0",
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
    assert [example.dice for example in examples] == [dice[i] for i in telling_images(dice)]
    assert examples[0].case == "best"
    assert Image.open(BytesIO(examples[0].png)).size == (3 * 16 + 2, 16)


def test_the_report_shows_examples_or_says_that_there_are_none(full, tmp_path):
    (run,) = find_runs([full.run.folder / "results"])
    document = report(Method("tiny", {run.seed: run}))
    assert sum(isinstance(block, Pictures) for block in document.blocks) == 3
    assert "No pictures" not in document.markdown()
    alone = tmp_path / "results.json"
    alone.write_text(json.dumps(run.content))
    document = report(Method("tiny", {run.seed: read_run(alone)}))
    assert sum(isinstance(block, Pictures) for block in document.blocks) == 0
    assert "No pictures of north, south, west." in document.markdown()


def test_written_files_are_all_that_is_named(like, tmp_path):
    write_report(report(method(like()), method(like("own"))), tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"report.md", "report.html", "figures/dice.svg", "figures/validation.svg"}
    text = (tmp_path / "report.md").read_text()
    assert "](figures/dice.svg)" in text
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
    assert "own †" in (tmp_path / "report/report.html").read_text()
