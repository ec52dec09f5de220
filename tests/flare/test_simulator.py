"""Whole FLARE runs in the simulator, each in processes of its own."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tiny_job import REPOSITORY, disclosed, in_one_process, write_policy

from mucald.errors import InterruptedRunError
from mucald.federation.progress import LOGGER
from mucald.methods.jobs import load_job
from mucald.privacy.policy import TO_ALLOW

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1600)]

JOB = Path(__file__).parents[2] / "jobs" / "mucald"

# What may differ between two runs of the same numbers.
INCIDENTAL = ("run_id", "timing")


def results(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "results.json").read_text())
    return {key: value for key, value in content.items() if key not in INCIDENTAL}


def models(*folders: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.name}:{name}": tensor
        for folder in folders
        for path in sorted((folder / "models").glob("*.safetensors"))
        for name, tensor in safetensors.torch.load_file(path).items()
    }


def test_one_process_three_at_once_and_in_turn_give_equal_numbers(tmp_path, make_job, simulate):
    job = make_job()
    config, sites = load_job(job)
    in_one_process(config, sites, tmp_path / "local", tmp_path / "local.home")
    expected = results(tmp_path / "local/server")
    weights = models(tmp_path / "local/server", *(tmp_path / "local" / site for site in sites))
    assert expected["mean"]["test"]["dice"] is not None
    for workspace, arguments in (("bare", ()), ("parallel", ("-t", "3"))):
        done = simulate(job, workspace, *arguments)
        assert done.returncode == 0, done.stdout
        root = tmp_path / workspace
        assert results(root / "server/simulate_job") == expected, workspace
        runs = [root / name / "simulate_job" for name in ("server", *sites)]
        found = models(*runs)
        assert found.keys() == weights.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in weights.items()), workspace
        assert "server adds" in done.stdout


def test_a_choice_by_validation_and_steps_ahead_are_the_same_in_processes_of_their_own(
    tmp_path, make_job, simulate
):
    blocks = {"encoder": ["crdm1", "middle"], "decoder": ["middle.decoder", "middle.to_features", "crdm2"]}
    toward = {"rule": "conflict_averse", "args": {"c": 0.4}}
    args = {"toward": toward, "factors": [0, 0.5, 1], "blocks": blocks}
    job = make_job(
        aggregation={"rule": "interpolated", "statistics": False, "args": args},
        training={"rounds": 2, "local_epochs": 2, "batch_size": 3},
        handover={"epochs": 0},
        wire=load_job(JOB)[0].to_dict()["wire"] | {"pipeline_depth": 2},
    )
    config, sites = load_job(job)
    in_one_process(config, sites, tmp_path / "local", tmp_path / "local.home")
    expected = results(tmp_path / "local/server")
    assert all(len(site["aggregation"]) == 2 for site in expected["sites"].values())
    done = simulate(job, "workspace", "-t", "3")
    assert done.returncode == 0, done.stdout
    assert results(tmp_path / "workspace/server/simulate_job") == expected
    found, weights = models(tmp_path / "workspace/server/simulate_job"), models(tmp_path / "local/server")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("sealed", [False, True])
def test_groups_and_a_hand_over_are_the_same_over_flare(sealed, tmp_path, make_job, simulate):
    fresh = load_job(REPOSITORY / "jobs/mucald_fresh")[0].to_dict()
    tasks = {"embryo": "blastocyst", "skin": "ham10k", "polyp": "kvasir"}
    groups = {"skin": "two", "polyp": "two"}
    job = make_job(
        sites={site: {"task": task, "group": groups.get(site)} for site, task in tasks.items()},
        release=fresh["release"],
        algorithm={"name": "groups", "args": {"rule": "by_size", "sealed": sealed}},
        handover={"epochs": 2, "learning_rate": 0.001},
    )
    config, sites = load_job(job)
    in_one_process(config, sites, tmp_path / "local", tmp_path / "local.home")
    expected = results(tmp_path / "local/server")
    assert expected["failures"] == []
    assert all(site["handover"]["validation"] >= 0 for site in expected["sites"].values())
    done = simulate(job, "workspace", "-t", "3")
    assert done.returncode == 0, done.stdout
    assert results(tmp_path / "workspace/server/simulate_job") == expected
    found = models(*(tmp_path / "workspace" / name / "simulate_job" for name in ("server", *sites)))
    weights = models(*(tmp_path / "local" / name for name in ("server", *sites)))
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def test_a_site_without_its_images_is_left_out_and_the_others_go_on(
    tmp_path, make_job, simulate, monkeypatch
):
    monkeypatch.setenv("MUCALD_HOME", str(tmp_path / "home"))
    write_policy(tmp_path / "home/skin")
    site_file = {"task": "ham10k", "root": "patients", "layout": "pairs"}
    (tmp_path / "home/skin/site.json").write_text(json.dumps(site_file))
    done = simulate(make_job(), "workspace", "-t", "3")
    output = done.stdout
    assert done.returncode == 0, output
    found = results(tmp_path / "workspace/server/simulate_job")
    assert sorted(found["sites"]) == ["embryo", "polyp"]
    assert {failure["site"] for failure in found["failures"]} == {"skin"}
    # The site's own log names the folder; what the server learns does not.
    assert all("patients" not in failure["reason"] for failure in found["failures"])
    assert "patients" in (tmp_path / "workspace/skin/log.txt").read_text()
    assert "patients" not in (tmp_path / "workspace/server/log.txt").read_text()


def test_a_site_whose_policy_refuses_the_job_is_left_out_with_its_reason(
    tmp_path, make_job, simulate, monkeypatch
):
    monkeypatch.setenv("MUCALD_HOME", str(tmp_path / "home"))
    template = REPOSITORY / "workspace_templates/site/policy.json"
    (tmp_path / "home/polyp").mkdir(parents=True)
    (tmp_path / "home/polyp/policy.json").write_bytes(template.read_bytes())
    job = make_job()
    file = job / "app/config/mucald.json"
    config = json.loads(file.read_text())
    config["release"]["noised"] = False
    config["network"]["cut"] = 2
    file.write_text(json.dumps(config))
    done = simulate(job, "workspace", "-t", "3")
    assert done.returncode == 0, done.stdout
    found = results(tmp_path / "workspace/server/simulate_job")
    reason = "site 'polyp' refuses by its policy.json: latents.max_snr allows 0.0374, the job has no bound"
    reason = f"{reason}; {TO_ALLOW}"
    assert found["failures"] == [{"site": "polyp", "round": n, "reason": reason} for n in range(3)]
    assert sorted(found["sites"]) == ["embryo", "skin"]
    assert reason in (tmp_path / "workspace/server/log.txt").read_text()
    assert not (tmp_path / "home/polyp/runs").exists(), "it never began"


def test_too_few_sites_stop_the_job_with_the_reason(tmp_path, make_job, simulate, monkeypatch):
    monkeypatch.setenv("MUCALD_HOME", str(tmp_path / "home"))
    for site in ("skin", "polyp"):
        (tmp_path / "home" / site).mkdir(parents=True)
        (tmp_path / "home" / site / "site.json").write_text("{}")
    done = simulate(make_job(), "workspace", "-t", "3")
    assert done.returncode != 0
    assert "1 sites finished round 1, but min_sites is 2" in done.stdout


def test_a_misspelt_key_stops_the_job_with_its_name(make_job, simulate):
    done = simulate(make_job(traning={}), "workspace")
    assert done.returncode != 0
    assert "unknown key 'traning'; did you mean 'training'?" in done.stdout


def test_a_stopped_run_goes_on_and_ends_with_the_numbers_of_one_never_stopped(
    tmp_path, make_job, simulate, monkeypatch
):
    monkeypatch.setenv("MUCALD_HOME", str(tmp_path / "home"))
    job = make_job()
    config, sites = load_job(job)
    in_one_process(config, sites, tmp_path / "whole", tmp_path / "whole.home")

    def stop_at_round_2(record: logging.LogRecord) -> bool:
        if "round 2/2" in record.getMessage():
            raise KeyboardInterrupt
        return True

    log = logging.getLogger(LOGGER)
    log.addFilter(stop_at_round_2)
    log.setLevel(logging.INFO)
    try:
        with pytest.raises(InterruptedRunError, match="to go on"):
            in_one_process(config, sites, tmp_path / "half", tmp_path / "home", workers=1)
    finally:
        log.removeFilter(stop_at_round_2)
    done = simulate(make_job("again", resume_from="latest"), "rest", "-t", "3")
    assert done.returncode == 0, done.stdout
    assert "going on with run" in done.stdout
    expected, found = results(tmp_path / "whole/server"), results(tmp_path / "rest/server/simulate_job")
    expected["config"]["resume_from"] = "latest"
    assert found == expected


def test_pooled_data_give_equal_numbers_in_one_process_and_in_the_simulator(tmp_path, make_job, simulate):
    baseline = load_job(JOB.with_name("baseline_centralized"))[0].to_dict()
    job = make_job()
    path = job / "app/config/mucald.json"
    small = json.loads(path.read_text())
    kept = {key: small[key] for key in ("sites", "data", "training", "network")}
    path.write_text(json.dumps(baseline | kept))
    meta = json.loads((job / "meta.json").read_text())
    meta |= {"min_clients": 1, "deploy_map": {"app": ["server", "pooled"]}}
    (job / "meta.json").write_text(json.dumps(meta))
    config, sites = load_job(job)
    in_one_process(config, sites, tmp_path / "local", tmp_path / "local.home", workers=1)
    done = simulate(job, "bare")
    assert done.returncode == 0, done.stdout
    root = tmp_path / "bare"
    assert results(root / "server/simulate_job") == results(tmp_path / "local/server")
    weights, found = models(tmp_path / "local/pooled"), models(root / "pooled/simulate_job")
    assert {name.split(".")[0] for name in weights} == {"embryo", "skin", "polyp"}
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())
    assert "lie TOGETHER at 'pooled'" in done.stdout


def test_front_ends_that_are_shared_give_the_numbers_of_one_process(tmp_path, make_job, simulate):
    splitfed = load_job(REPOSITORY / "jobs/baseline_splitfed")[0].to_dict()
    parts = {key: splitfed[key] for key in ("release", "crdm", "daca", "losses", "aggregation")}
    job = make_job(**parts, algorithm={"name": "fedper", "args": {}})
    config, sites = load_job(job)
    in_one_process(config, sites, tmp_path / "local", tmp_path / "local.home")
    done = simulate(job, "flare", "-t", "3")
    assert done.returncode == 0, done.stdout
    found = results(tmp_path / "flare/server/simulate_job")
    assert found == results(tmp_path / "local/server")
    assert disclosed(found, "weights")["facts"]["part"] == "front end"
    weights = models(tmp_path / "local/server", *(tmp_path / "local" / site for site in sites))
    runs = [tmp_path / "flare" / name / "simulate_job" for name in ("server", *sites)]
    same = models(*runs)
    assert same.keys() == weights.keys()
    assert all(torch.equal(same[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("threads", "names"), [("1", ("embryo", "skin")), ("3", ("embryo", "skin", "polyp"))]
)
def test_sites_that_take_turns_give_the_numbers_of_one_process(threads, names, tmp_path, make_job, simulate):
    job = make_job(
        sites={name: load_job(JOB)[0].to_dict()["sites"][name] for name in names},
        algorithm={"name": "splitfed_v2", "args": {}},
        aggregation={"rule": "local", "statistics": False, "args": {}},
    )
    config, sites = load_job(job)
    in_one_process(config, sites, tmp_path / "local", tmp_path / "local.home")
    done = simulate(job, "flare", "-t", threads)
    assert done.returncode == 0, done.stdout
    found = results(tmp_path / "flare/server/simulate_job")
    assert found["failures"] == []
    assert found == results(tmp_path / "local/server")
    weights = models(tmp_path / "local/server", *(tmp_path / "local" / site for site in sites))
    same = models(*(tmp_path / "flare" / name / "simulate_job" for name in ("server", *sites)))
    assert same.keys() == weights.keys()
    assert all(torch.equal(same[name], tensor) for name, tensor in weights.items())
