"""One comparison across families: its presets, its table, and its command."""

import json
import re
import sys
from pathlib import Path

import pytest
from families import whole_content
from tiny_job import PLAIN, REPOSITORY, tiny_content, write_job

sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
from results_files import method, results_like

from mucald.commands import main_of
from mucald.errors import ConfigError
from mucald.privacy.gaussian import epsilon, mu_of
from mucald_studies.attacks.harness.result import AttackResult, Estimate
from mucald_studies.comparison import presets
from mucald_studies.comparison.comparison import comparison_page, guarantee, sees_weights
from mucald_studies.comparison.presets import Entry, Preset, chosen_rows, plan_rows, preset_names, read_preset

ALONE = [0.30 + 0.02 * i for i in range(20)]
BETTER = [value + 0.04 + 0.001 * i for i, value in enumerate(ALONE)]


def weights(part: str, bound: float | None = None) -> dict:
    facts = {"part": part, "epsilon": bound, "delta": 1e-4 if bound else None}
    bounds = {"train": {"mu": mu_of(bound, 1e-4)}} if bound else {}
    return {"kind": "weights", "often": "once", "noise": "none", "facts": facts, "bounds": bounds}


LATENTS = {
    "kind": "latents",
    "often": "once",
    "noise": "Gaussian",
    "facts": {},
    "bounds": {"train": {"mu": 2.0}, "test": {"mu": 4.0}},
}
CENTRALISED = {"config__method": "generative", "config__algorithm": {"name": "centralised", "args": {}}}
PROXIES = {"kind": "proxies", "often": "once", "noise": "Gaussian", "facts": {}, "bounds": {}}


@pytest.fixture
def like(full):
    def make(job, scores, disclosures=(), **changes):
        told = {"privacy__disclosures": list(disclosures), "config__method": "weights"} | changes
        return results_like(full.run.results, job, 7, {"north": scores, "south": scores}, **told)

    return make


PRESET = Preset("Test", "local", {name: Entry("weights", name) for name in ("good", "local", "absent")})


def test_a_row_tells_what_is_achieved_and_what_it_costs(like):
    good, local = like("good", BETTER, [weights("encoder")]), like("local", ALONE)
    good["wire"] |= {"bytes_up": 2e6, "bytes_down": 1e6}
    good["timing"] |= {"wall_s": 12.0, "peak_memory_mb": 800.0}
    good["sites"]["south"]["test"]["dice"] = 0.4
    auc = Estimate(0.7, 0.6, 0.8)
    attack = AttackResult("loss", "good", good["run_id"], "south", (), "train", 9, 0, {"auc": auc}, {})
    page = comparison_page(PRESET, [method(local), method(good)], {good["run_id"]: [attack]})
    text = page.markdown()
    (row,) = re.findall(r"(?m)^\| good \| weights \|.*$", text)
    cells = [cell.strip() for cell in row.split("|")[3:-1]]
    assert cells[:3] == ["weights (encoder, without noise)", "none", "yes: encoder"]
    assert cells[3] == "0.70 AUC<br>loss on south"
    assert cells[5] == "0.400<br>south"
    assert cells[6].startswith("**+0.050**<br>[+0.0")
    assert cells[7:] == ["3.00", "12.0", "800"]
    (row,) = re.findall(r"(?m)^\| local \| weights \|.*$", text)
    assert [cell.strip() for cell in row.split("|")[3:7]] == ["scores alone", "nothing leaves", "no", "–"]
    assert "Not there yet: absent." in text
    assert re.search(r"(?m)^north \(kvasir, phantoms, 4/\d+/\d+\);$", text), "where the images come from"
    assert ">good<" in page.pictures["plane.svg"].data.decode()
    assert ">local<" not in page.pictures["plane.svg"].data.decode(), "nobody attacked it"
    assert "Not drawn, as no attack on members was measured: local." in text


@pytest.mark.parametrize(
    ("disclosures", "guaranteed", "seen"),
    [
        ([], "nothing leaves", "no"),
        ([LATENTS], f"none (ε = {epsilon(4.0, 1e-5):.3g} at δ = 1e-05)", "no"),
        ([LATENTS | {"bounds": {"train": {"mu": 2.0}, "test": {"mu": None}}}], "none", "no"),
        ([LATENTS, PROXIES], "none", "no"),
        ([weights("decoder under DP", 4.0)], "ε = 4 at δ = 0.0001", "yes: decoder under DP"),
        ([LATENTS, weights("front end, sealed")], "none", "sealed"),
    ],
)
def test_a_guarantee_is_as_weak_as_its_weakest_part(like, disclosures, guaranteed, seen):
    run = method(like("any", ALONE, disclosures)).first
    assert (guarantee(run), sees_weights(run)) == (guaranteed, seen)


def test_who_has_the_images_sees_all(like):
    for config in ({"config__method": "pooled"}, CENTRALISED):
        run = method(like("any", ALONE, **config)).first
        assert (guarantee(run), sees_weights(run)) == ("none", "has the images")


def test_another_budget_has_a_mark_and_other_data_no_gain(like):
    good = like("good", BETTER, [weights("encoder")], config__training__rounds=9)
    text = comparison_page(PRESET, [method(like("local", ALONE)), method(good)], {}).markdown()
    assert "Rows marked † differ from local. good: passes over the images 9 instead of 2.\n" in text
    (row,) = re.findall(r"(?m)^\| good † \| weights \|.*$", text)
    assert row.split("|")[9].strip().startswith("**+0.050**")
    good["sites"]["north"]["n_train"] = 99
    text = comparison_page(PRESET, [method(like("local", ALONE)), method(good)], {}).markdown()
    (row,) = re.findall(r"(?m)^\| good † \| weights \|.*$", text)
    assert row.split("|")[9].strip() == "–"


@pytest.mark.parametrize("name", preset_names())
def test_every_row_of_a_preset_is_a_job(name, tmp_path):
    preset = read_preset(name)
    planned = plan_rows(preset.rows, [7, 8], {"training.rounds": 1}, tmp_path, None, tmp_path / "made")
    assert {each.config.name for each in planned} == preset.rows.keys()
    assert len(planned) == 2 * len(preset.rows)
    assert {each.config.training.rounds for each in planned} == {1}
    assert len({tuple(each.sites) for each in planned if not each.pooled_at}) == 1
    assert preset.alone in preset.rows


def test_a_row_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="has no row 'goud'; did you mean 'good'"):
        chosen_rows(PRESET, ["goud"])
    with pytest.raises(ConfigError, match=r"row 'good': .*no job folder"):
        plan_rows({"good": Entry("weights", "nowhere")}, [7], {}, tmp_path, None, tmp_path)
    assert list(chosen_rows(PRESET, ["good"])) == ["good", "local"]


def test_the_command_runs_what_is_missing_and_writes_the_page(tmp_path, monkeypatch, capsys):
    shared = {"min_sites": 2, "training": {"rounds": 1, "local_epochs": 1, "batch_size": 2}}
    write_job(
        tmp_path / "jobs/alone",
        whole_content({"method": "weights", "shared": [], "algorithm": {"name": "fedavg"}}, shared),
    )
    write_job(tmp_path / "jobs/split", tiny_content(PLAIN, **shared))
    rows = {
        "local": {"family": "alone", "job": "alone"},
        "fedavg": {"family": "weights", "job": "alone", "set": {"shared": ["front_end", "middle"]}},
        "split": {"family": "split", "job": "split"},
    }
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets/tiny.json").write_text(json.dumps({"title": "Tiny", "alone": "local", "rows": rows}))
    monkeypatch.setattr(presets, "JOBS", tmp_path / "jobs")
    monkeypatch.setattr(presets, "FOLDER", tmp_path / "presets")
    arguments = ["tiny", "--out", str(tmp_path / "out"), "--threads", "2"]
    assert main_of("compare")([*arguments, "--page-only"]) == 1
    assert "no run of 'local'" in capsys.readouterr().err
    assert main_of("compare")([*arguments, "--only", "fedavg", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["finished"] == ["fedavg", "local"]
    assert main_of("compare")(arguments) == 0
    assert "finished before: 2" in capsys.readouterr().out
    text = (tmp_path / "out/comparison.md").read_text()
    assert [re.search(rf"(?m)^\| {name} \| \w+ \|", text) is not None for name in rows] == [True] * 3
    assert (tmp_path / "out/comparison.html").exists()


def test_the_shipped_jobs_are_found():
    assert presets.JOBS == REPOSITORY / "jobs"
