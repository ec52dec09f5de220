"""What a site or a server may get wrong: refused by name with the fix, and the fault of one alone."""

from dataclasses import replace

import pytest
import torch
from families import config_of
from own_sets import CVAE, SITES, own_sets, private
from tiny_job import CPU, Federation, draw, run_job

from mucald.data.embeddings.sets import read_set, write_set
from mucald.errors import CheckpointError, DataError, WireError
from mucald.federation.participant import create_site
from mucald.methods import family_of
from mucald.privacy.dp.ledger import LEDGER_FILE

HIDDEN = {"name": "cvae", "args": {"hidden": [6], "latent": 2}}
"""A CVAE whose decoder has other shapes."""


def test_a_damaged_ledger_is_its_own_sites_fault_alone(tmp_path):
    for site in SITES:
        private(tmp_path, site)
    run_job(own_sets(), tmp_path)
    path = tmp_path / "home/south" / LEDGER_FILE
    path.write_bytes(path.read_bytes()[:-30])
    results = run_job(own_sets(seed=8), tmp_path).results
    assert {failure["site"] for failure in results["failures"]} == {"south"}
    assert set(results["sites"]) == {"north", "west"}
    for failure in results["failures"]:
        assert f"{path}: its last line is not whole" in failure["reason"]
        assert "restored from a backup" in failure["reason"]


def test_a_decoder_of_another_job_or_an_encoder_is_refused_by_site_and_server(tmp_path):
    federation = Federation(config_of(CVAE), tmp_path / "one")
    task = federation.open_next()
    other = Federation(config_of(CVAE, algorithm=HIDDEN), tmp_path / "other")
    theirs = other.coordinator.payload("north", other.open_next())
    encoder = federation.coordinator.payload("north", task) | {"encoder.0.weight": draw(4, 15)}
    federation.work("north", task)
    site = federation.sites["north"]
    for wrong, said in (
        (theirs, "'decoder.0.weight' of the server has shape"),
        (encoder, "'encoder.0.weight'"),
    ):
        with pytest.raises(WireError, match=said):
            site.run(task, dict(wrong), lambda _: b"")
    outcome = federation.work("south", task)
    for wrong, said in ((theirs, "of site 'south' has shape"), (encoder, "which is not shared in this job")):
        with pytest.raises(WireError, match=said):
            federation.receive("south", replace(outcome, payload=wrong))
    assert federation.work("north", task).payload.keys() == outcome.payload.keys(), "it goes on"


def test_a_run_does_not_begin_with_the_decoder_of_another_job(tmp_path):
    Federation(config_of(CVAE), tmp_path).run(tasks=1)
    with pytest.raises(CheckpointError, match="had another configuration: algorithm"):
        Federation(config_of(CVAE, algorithm=HIDDEN, resume_from="latest"), tmp_path)


def test_a_synthetic_set_of_another_job_is_refused_with_its_space(tmp_path):
    run_job(config_of(CVAE), tmp_path / "run")
    drawn = read_set(tmp_path / "run/results/north/files/north/synthetic.safetensors")
    labels = torch.arange(len(drawn)) % 2
    home = tmp_path / "home/north"
    content = private(tmp_path, "north")
    classes = content.header.classes
    write_set(
        home / "set.safetensors", replace(drawn, header=replace(drawn.header, classes=classes), labels=labels)
    )
    config = own_sets(features={"dimension": 7})
    with pytest.raises(
        DataError, match=r"features-8 and not features-7; take .*features.dimension 7, or real"
    ):
        create_site(family_of("generative"), "north", config, home, "run", CPU)


@pytest.mark.parametrize("algorithm", [{"name": "cvae"}, {"name": "fedavg"}, HIDDEN | {"name": "cgan"}])
@pytest.mark.parametrize("epsilon", [4.0, None])
def test_a_site_smaller_than_a_batch_and_a_class_with_one_case_are_trained_on(algorithm, epsilon, tmp_path):
    private(tmp_path, "north")
    private(tmp_path, "south", 16)
    one_case = torch.tensor([3] + [0, 1, 2] * 13)
    private(tmp_path, "west", labels=one_case)
    training = {"rounds": 2, "local_epochs": 2, "batch_size": 32}
    config = own_sets(algorithm=algorithm, privacy={"epsilon": epsilon}, training=training)
    results = run_job(config, tmp_path).results
    assert results["failures"] == []
    assert results["sites"]["south"]["n_train"] < 32
    assert all(site["test"]["balanced_accuracy"] is not None for site in results["sites"].values())


def test_a_network_that_the_job_does_not_name_is_refused_with_the_key_that_names_it(tmp_path):
    content = private(tmp_path, "north")
    home = tmp_path / "home/north"
    write_set(home / "set.safetensors", replace(content, header=replace(content.header, backbone="other")))
    with pytest.raises(DataError, match=r"of other \(.*wants random-features; embed .* features\.backbone$"):
        create_site(family_of("generative"), "north", own_sets(), home, "run", CPU)


def test_a_site_without_a_case_to_test_is_left_out_with_the_number_that_it_needs(tmp_path):
    for site in SITES:
        private(tmp_path, site)
    private(tmp_path, "south", 12)
    results = run_job(own_sets(), tmp_path).results
    assert {failure["site"] for failure in results["failures"]} == {"south"}
    assert "no class has 4 cases to train; add images" in results["failures"][0]["reason"]
