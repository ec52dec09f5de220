"""Sites of one task test each other's networks; each tells what training has led to before it is combined."""

from dataclasses import replace

import pytest
from families import METHODS, config_of
from tiny_job import CPU, Federation, equal_models, run_job, site_data

from mucald.errors import WireError
from mucald.methods import family_of
from mucald.results.table import cross_site_table
from mucald.training.whole_model import WholeModel

CROSSED = config_of("weights fedavg", cross_site=True)


def test_every_site_has_a_score_of_each_other_of_its_task_and_no_number_changes_by_it(tmp_path):
    crossed, plain = run_job(CROSSED, tmp_path / "on"), run_job(config_of("weights fedavg"), tmp_path / "off")
    found = {name: site.get("cross_site") for name, site in crossed.results["sites"].items()}
    assert {name: set(scores or ()) for name, scores in found.items()} == {
        "north": {"west"},
        "south": set(),
        "west": {"north"},
    }
    for name, site in crossed.results["sites"].items():
        assert site["test"] == plain.results["sites"][name]["test"]
    assert crossed.results["rounds"] == plain.results["rounds"]
    assert equal_models(crossed, plain)


def test_the_scores_are_told_as_a_matrix(tmp_path):
    results = run_job(CROSSED, tmp_path).results
    head, north, west = (line.split() for line in cross_site_table(results).splitlines())
    assert head == ["test", "of", "north", "west"]
    assert north == ["north", "-", f"{results['sites']['north']['cross_site']['west']:.3f}"]
    assert west == ["west", f"{results['sites']['west']['cross_site']['north']:.3f}", "-"]
    assert cross_site_table(run_job(config_of("weights fedavg"), tmp_path / "plain").results) == ""


def test_the_score_is_that_of_the_other_sites_network_after_its_last_round(tmp_path):
    run = run_job(CROSSED, tmp_path)
    west = WholeModel(CROSSED, {"west": site_data(CROSSED, "west")}, CPU)
    west.load_state(run.checkpoint("west", 2))
    data = site_data(CROSSED, "north")
    north = WholeModel(CROSSED, {"north": data}, CPU)
    before = {name: tensor.clone() for name, tensor in north.weights("north").items()}
    score = north.score_of("north", data.test, 2, west.weights("west"))
    assert run.results["sites"]["north"]["cross_site"] == {"west": score}
    assert all((before[name] == tensor).all() for name, tensor in north.weights("north").items())


def test_it_is_declared_as_whole_networks_and_only_where_there_is_somebody_to_test_them():
    family = family_of("weights")

    def part(config):
        return [d.facts.get("part") for d in family.disclosures(config) if d.kind == "weights"]

    assert part(CROSSED) == ["whole network"]
    assert part(config_of("weights fedavg")) == ["encoder"]
    sites = {"north": {"task": "kvasir"}, "south": {"task": "ham10k"}}
    assert part(config_of("weights fedavg", cross_site=True, sites=sites)) == ["encoder"]


def test_a_stopped_and_resumed_run_still_has_the_networks(tmp_path):
    unbroken = run_job(CROSSED, tmp_path / "unbroken")
    Federation(CROSSED, tmp_path / "stopped").run(tasks=2)
    resumed = run_job(replace(CROSSED, resume_from="latest"), tmp_path / "stopped")
    assert resumed.numbers() == unbroken.numbers()


def test_a_network_that_is_none_of_the_task_is_refused(tmp_path):
    federation = Federation(CROSSED, tmp_path)
    coordinator = federation.coordinator
    for task in coordinator.tasks():
        coordinator.open(task)
        for turn in coordinator.turns():
            for name in turn:
                outcome = federation.work(name, task)
                models = {key for key in outcome.payload if key.startswith("model.")}
                assert bool(models) is (task.kind == "train" and task.round == 1 and name != "south")
                if models:
                    first = min(models)
                    wrong = outcome.payload | {first: outcome.payload[first].flatten()[:1]}
                    with pytest.raises(WireError, match="has shape"):
                        coordinator.receive(name, outcome.reports, wrong)
                coordinator.receive(name, outcome.reports, outcome.payload)
        coordinator.close(task)


@pytest.mark.parametrize("method", ["weights fedavg", "weights volumes"])
def test_what_training_led_to_is_told_beside_what_the_round_began_with(method, tmp_path):
    assert method in METHODS
    results = run_job(config_of(method), tmp_path).results
    for entry in results["rounds"]:
        for name, numbers in entry["sites"].items():
            primary = "balanced_accuracy" if results["sites"][name]["task"] == "liver_lesion" else "dice"
            assert set(numbers["after_training"]) <= {"loss", primary}
            assert numbers["after_training"]["loss"] > 0
    rounds = results["rounds"]
    before = results["sites"]["north"]["validation"]
    assert before[0]["loss"] != rounds[0]["sites"]["north"]["after_training"]["loss"]
