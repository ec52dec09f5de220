import json
import math

import pytest
from tiny_job import flat_numbers, run_job, tiny_config

from mucald import __version__
from mucald.methods.split.disclosures import disclosures
from mucald.methods.split.wire.messages import Phase, decode
from mucald.metrics.names import NAMES
from mucald.privacy.disclosure import account
from mucald.results.history import History
from mucald.results.results import build_results
from mucald.results.table import results_table
from mucald.tasks import TASKS, Task

SITES = ("north", "south", "west")
METRICS = NAMES["mask"].metrics
CAUSAL = {f"{name}_{split}" for name in ("proxy", "kl_exogenous", "kl_causal") for split in (1, 2)}
DIFFUSION, ADVERSARIAL = {"diffusion_1", "diffusion_2"}, {"adversarial_1", "adversarial_2"}
AT_THE_SITE = {"dice", "cross_entropy", "segmentation"}
MODULES = {f"{name}_{split}" for name in ("encoder", "causal", "denoiser") for split in (1, 2)}


@pytest.fixture
def results(full):
    return full.run.results


def test_the_results_are_json_and_name_the_run(results):
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert (results["schema"], results["job"], results["seed"]) == (2, "tiny", 7)
    assert results["version"] == __version__
    assert results["run_id"].startswith("tiny-")
    assert tiny_config(results["config"]) == tiny_config()
    assert results["failures"] == []
    assert len(list(flat_numbers(results))) > 300


def test_every_site_has_its_data_validation_and_test(results):
    assert list(results["sites"]) == sorted(SITES)
    for name, site in results["sites"].items():
        assert site["task"] == ("ham10k" if name == "south" else "kvasir")
        assert (site["n_train"], site["n_validation"], site["n_test"]) == (4, 2, 2)
        assert [entry["round"] for entry in site["validation"]] == [0, 1]
        assert {"dice", "loss", "best"} <= set(site["validation"][0])
        assert {*METRICS, "per_class"} == set(site["test"])
        best = [entry["round"] for entry in site["validation"] if entry["best"]]
        assert site["best_round"] == (best[-1] if best else None)
        scores = [entry["dice"] for entry in site["validation"]]
        assert site["best_round"] is None or scores[site["best_round"]] == max(scores)


def test_the_mean_is_that_of_the_sites(results):
    for metric in METRICS:
        values = [site["test"][metric] for site in results["sites"].values()]
        known = [value for value in values if value is not None]
        assert results["mean"]["test"][metric] == pytest.approx(sum(known) / len(known))
    added = [site["server_contribution"] for site in results["sites"].values()]
    assert results["mean"]["server_contribution"] == pytest.approx(sum(added) / 3)


def test_every_round_tells_every_loss_term_and_gradient_norm_of_the_full_method(results):
    for number, record in enumerate(results["rounds"]):
        assert record["round"] == number
        assert list(record["sites"]) == list(SITES)
        for entry in record["sites"].values():
            assert set(entry["losses"]) == AT_THE_SITE | CAUSAL | DIFFUSION | ADVERSARIAL | {"proximal"}
            assert set(entry["gradients"]) == {"front_end", "back_end", "middle", "prior"} | MODULES
            assert all(math.isfinite(v) and v != 0 for v in entry["losses"].values())
            assert all(math.isfinite(v) and v > 0 for v in entry["gradients"].values())
            assert (entry["proxy_mse"] is None) == (number == 0), "there is no validation before round 1"
        assert set(record["discriminators"]) == {"loss_1", "accuracy_1", "loss_2", "accuracy_2"}


@pytest.mark.parametrize(
    ("change", "terms", "modules"),
    [
        ({"daca": {"enabled": False}}, ADVERSARIAL, set()),
        ({"crdm": {"encoder": "none"}}, CAUSAL, {"prior"} | {m for m in MODULES if "denoiser" not in m}),
        ({"crdm": {"denoiser": False}}, DIFFUSION, {"denoiser_1", "denoiser_2"}),
    ],
    ids=["daca", "encoder", "denoiser"],
)
def test_what_is_switched_off_is_absent_from_every_round(change, terms, modules, results, tmp_path):
    other = run_job(tiny_config(change), tmp_path)
    for record, whole in zip(other.results["rounds"], results["rounds"], strict=True):
        for site in SITES:
            assert set(record["sites"][site]["losses"]) == set(whole["sites"][site]["losses"]) - terms
            assert set(record["sites"][site]["gradients"]) == set(whole["sites"][site]["gradients"]) - modules
        assert bool(record["discriminators"]) == (terms is not ADVERSARIAL)
    names = {name for model in other.models().values() for name in model}
    parts = {f"{name.split('.')[0][-1]}:{name.split('.')[1]}" for name in names if name.startswith("crdm")}
    expected = {f"{split}:{name}" for name in ("encoder", "causal", "denoiser") for split in (1, 2)}
    assert parts == expected - {f"{m[-1]}:{m[:-2]}" for m in modules if m != "prior"}


def test_ramps_follow_the_whole_run_and_do_not_start_again_every_round(tmp_path):
    ramp = {"warm_up": 0.25, "ramp": 0.5}
    losses = {"proxy": ramp, "adversarial": ramp | {"warm_up": 0.75}}
    config = tiny_config(training={"rounds": 5}, data={"phantoms": {"train": 2}}, losses=losses)
    rounds = run_job(config, tmp_path, sites=["north", "south"]).results["rounds"]
    terms = [set(record["sites"]["north"]["losses"]) for record in rounds]
    # Progress is 0, ¼, ½, ¾, 1; at the end of its warm-up a term still weighs 0.
    assert ["proxy_1" in names for names in terms] == [False, False, True, True, True]
    assert ["adversarial_2" in names for names in terms] == [False, False, False, False, True]
    assert all("diffusion_1" in names for names in terms)


def test_the_wire_counts_every_byte(full, results):
    sizes = [(len(request), len(reply)) for _, request, reply in full.messages]
    assert results["wire"]["bytes_up"] == sum(up for up, _ in sizes)
    assert results["wire"]["bytes_down"] == sum(down for _, down in sizes)
    training = (Phase.TRAIN_FORWARD, Phase.TRAIN_BACKWARD)
    in_training = sum(len(q) + len(a) for _, q, a in full.messages if decode(q).phase in training)
    images = 3 * 4 * 2
    assert results["wire"]["bytes_per_image_step"] == pytest.approx(in_training / images)
    assert sum(site["wire"]["up"] for site in results["sites"].values()) == results["wire"]["bytes_up"]


def test_the_times_add_up(results):
    timing = results["timing"]
    totals = {"wall_s", "tasks_s", "site_s", "server_s", "transport_s"}
    assert set(timing) == totals | {"first_step_s", "round_ends_s", "peak_memory_mb"}
    assert all(timing[name] > 0 for name in totals)
    times = [0, timing["first_step_s"], *timing["round_ends_s"], timing["wall_s"]]
    assert len(times) == 5
    assert times == sorted(set(times))
    # One worker: what sites, server and transport took lies within the wall time.
    parts = timing["site_s"] + timing["server_s"] + timing["transport_s"]
    assert timing["tasks_s"] <= parts + 1e-6
    assert parts < timing["wall_s"]


def cosine_snr(t: int) -> float:
    def signal(step: float) -> float:
        return math.cos((step / 400 + 0.008) / 1.008 * math.pi / 2) ** 2

    alpha_bar = signal(t + 1) / signal(0)
    return alpha_bar / (1 - alpha_bar)


@pytest.mark.parametrize(
    ("change", "kind", "expected"),
    [
        ({}, "latents", {"mode": "fresh", "releases": 2, "cut": 1, "channels": 4, "payload_type": "int8"}),
        ({"release": {"noised": False}}, "latents", {"snr": None}),
        (
            {"release": {"mode": "once"}, "training": {"rounds": 9}},
            "latents",
            {"mode": "once", "releases": 1},
        ),
        ({"crdm": {"supervision": "ambient"}}, "latent noise", None),
        ({"crdm": {"supervision": "epsilon"}}, "latent noise", {}),
        ({"crdm": {"supervision": "epsilon"}, "release": {"noised": False}}, "latent noise", None),
        ({}, "latent noise", None),
        ({}, "feature gradients", {"clip": None, "noise": 0.0, "payload_type": "bfloat16"}),
        ({}, "proxies", {"noise": 0.5}),
        ({"crdm": {"encoder": "none"}}, "proxies", None),
        ({}, "weights", None),
        (
            {"algorithm": {"name": "fedper"}},
            "weights",
            {"part": "front end", "epsilon": None, "delta": None, "total_epsilon": None},
        ),
        ({}, "scores", {}),
    ],
)
def test_the_privacy_section_says_what_the_job_does(change, kind, expected):
    config = tiny_config(change)
    privacy = build_results(config, "run", History(), account(disclosures(config), 1))["privacy"]
    found = [disclosure["facts"] for disclosure in privacy["disclosures"] if disclosure["kind"] == kind]
    assert len(found) == (expected is not None)
    if expected:
        assert {key: found[0][key] for key in expected} == expected


def bounds(privacy: dict) -> dict:
    (latents,) = (d for d in privacy["disclosures"] if d["kind"] == "latents")
    return {split: bound["releases"] for split, bound in latents["bounds"].items()}


def test_a_job_that_releases_once_says_so(results):
    assert bounds(results["privacy"]) == {"train": 2, "validation": 2, "test": 1}
    once = tiny_config(release={"mode": "once"}, training={"rounds": 9})
    privacy = build_results(once, "run", History(), account(disclosures(once), 1))["privacy"]
    assert bounds(privacy) == {"train": 1, "validation": 1, "test": 1}


def test_the_signal_to_noise_ratio_is_that_of_the_released_level(results):
    (latents,) = (d for d in results["privacy"]["disclosures"] if d["kind"] == "latents")
    assert latents["facts"]["snr"] == pytest.approx(cosine_snr(300), rel=1e-4)


def test_a_site_that_classifies_has_the_scores_of_its_target_beside_those_of_others(monkeypatch):
    monkeypatch.setitem(TASKS, "ward", Task("ward", "Ward", ("ill", "well"), target="class"))
    sites = {"north": {"task": "ward"}, "south": {"task": "ham10k"}}
    history = History()
    for site, task, metrics in (("north", "ward", NAMES["class"].metrics), ("south", "ham10k", METRICS)):
        report = {"site": site, "task": task, "source": "pairs", "round": 1, "seconds": 1.0}
        report |= {"n_train": 2, "n_validation": 1, "n_test": 1, "test": dict.fromkeys(metrics, 0.5)}
        report["wire"] = dict.fromkeys(("up", "down", "training", "seconds", "hidden"), 0)
        history.add_report(report | {f"{metrics[0]}_per_image": [0.5], "drift": 0.25}, 0.0, 1)
    results = build_results(tiny_config(sites=sites), "run", history, {})
    assert list(results["mean"]["test"]) == [*NAMES["class"].metrics, *METRICS]
    assert set(results["mean"]["test"].values()) == {0.5}
    assert results["sites"]["north"]["balanced_accuracy_per_image"] == [0.5]
    assert "dice_per_image" not in results["sites"]["north"]
    assert results["sites"]["south"]["drift"] == 0.25, "a method's own"
    _, north, south, mean = (line.split() for line in results_table(results).splitlines())
    assert north[4:] == ["0.500"] * len(NAMES["class"].metrics) + ["-"] * len(METRICS)
    assert south[4:] == ["-"] * len(NAMES["class"].metrics) + ["0.500"] * 5 + ["0.5", "0.5"]
    assert len(mean) == 1 + len(results["mean"]["test"])


def test_a_history_survives_json():
    history = History(rounds=[{"round": 0}], failures=[{"site": "north"}], images={"north": 3}, wall_s=1.5)
    assert History(**json.loads(json.dumps(history.to_dict()))) == history


def test_the_table_shows_every_site_and_the_mean(results):
    lines = results_table(results).splitlines()
    assert len(lines) == 5
    assert len({len(line) for line in lines}) == 1, "the columns are aligned"
    assert all(metric in lines[0] for metric in METRICS)
    north = lines[1].split()
    assert north[:2] == ["north", "kvasir"]
    assert f"{results['sites']['north']['test']['dice']:.3f}" in north
    assert f"{results['sites']['north']['server_contribution']:+.3f}" == north[-1]
    assert lines[-1].split()[:2] == ["mean", f"{results['mean']['test']['dice']:.3f}"]


def test_a_site_that_was_never_tested_is_in_the_results_but_not_in_the_table(results):
    untested = json.loads(json.dumps(results))
    untested["sites"]["north"] |= {"test": None, "server_contribution": None, "best_round": None}
    table = results_table(untested)
    assert "north" not in table
    assert "south" in table
    for name in SITES:
        untested["sites"][name]["test"] = None
    assert len(results_table(untested).splitlines()) == 1


def test_what_the_server_adds_has_a_column_only_where_a_site_knows_it(results):
    assert results_table(results).splitlines()[0].endswith("  server adds")
    alone = json.loads(json.dumps(results))
    alone["sites"]["north"]["server_contribution"] = None
    assert results_table(alone).splitlines()[0].endswith("  server adds")
    for site in alone["sites"].values():
        site["server_contribution"] = None
    alone["mean"]["server_contribution"] = None
    lines = results_table(alone).splitlines()
    assert lines[0].split()[-1] == METRICS[-1]
    assert [len(line.split()) for line in lines[1:-1]] == [4 + len(METRICS)] * 3
    assert len({len(line) for line in lines}) == 1, "the columns are aligned"


def test_a_score_that_is_not_known_is_a_dash(results):
    unknown = json.loads(json.dumps(results))
    unknown["sites"]["north"]["test"]["hd95"] = None
    unknown["sites"]["north"]["server_contribution"] = None
    row = results_table(unknown).splitlines()[1].split()
    assert row.count("-") == 2 + (unknown["sites"]["north"]["best_round"] is None)
