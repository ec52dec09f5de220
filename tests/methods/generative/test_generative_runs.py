"""Runs of sharing synthetic embeddings: budgets, ledgers, bad input, degenerate cases."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import METHODS, config_of
from own_sets import CVAE, own_sets, private
from tiny_job import CPU, REPOSITORY, Federation, draw, equal_models, run_job, with_limits, write_policy

from mucald.data.embeddings.sets import Header, read_set
from mucald.errors import ConfigError, ModelError, PolicyError
from mucald.federation.method import TrainedModel
from mucald.federation.participant import create_site
from mucald.methods import family_of
from mucald.methods.generative.downstream import Classifiers, best_mixture
from mucald.methods.generative.spending import Spending
from mucald.methods.jobs import load_job
from mucald.privacy.dp.budget import Guarantee
from mucald.privacy.dp.ledger import LEDGER_FILE
from mucald.privacy.gaussian import epsilon
from mucald.privacy.policy import DEFAULT, OPEN, check_disclosures
from mucald.tasks import get_task


def entries(home: Path, kind: str) -> list[dict[str, Any]]:
    lines = (home / LEDGER_FILE).read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]


def test_a_run_spends_exactly_its_budget_and_the_ledger_has_it(tmp_path):
    config = config_of(CVAE)
    run = run_job(config, tmp_path)
    for site in config.sites:
        (job,) = entries(tmp_path / "home" / site, "job")
        made = entries(tmp_path / "home" / site, "releases")
        planned = config.training.rounds * config.training.local_epochs
        assert (sum(entry["count"] for entry in made), job["releases"]) == (planned, planned)
        assert epsilon(job["mu"], 1e-4) == pytest.approx(4.0, rel=1e-6)
    (weights,) = [one for one in run.results["privacy"]["disclosures"] if one["kind"] == "weights"]
    facts = {"epsilon": 4.0, "delta": 1e-4, "total_epsilon": 4.0}
    assert weights["facts"] == {"part": "decoder under DP", **facts}
    assert any("one image more or less (add or remove" in sentence for sentence in weights["meaning"])


def test_a_server_that_asks_again_with_other_weights_is_refused_once_the_budget_is_spent(tmp_path):
    federation = Federation(config_of(CVAE), tmp_path)
    task = federation.open_next()
    payload = federation.coordinator.payload("north", task)
    outcomes = [federation.work("north", task)]
    site = federation.sites["north"]
    again = site.run(task, dict(payload), lambda _: b"")
    assert all(torch.equal(again.payload[n], t) for n, t in outcomes[0].payload.items()), (
        "phantoms are nobody's"
    )
    private(tmp_path, "north")
    config = own_sets()
    own = create_site(family_of("generative"), "north", config, tmp_path / "home/north", "other-run", CPU)
    shared = Federation(config, tmp_path / "server").coordinator.payload("north", task)
    moved = [{name: tensor + shift for name, tensor in shared.items()} for shift in (0.0, 0.1, 0.2)]
    first = own.run(task, dict(moved[0]), lambda _: b"")
    same = own.run(task, dict(moved[0]), lambda _: b"")
    assert all(torch.equal(same.payload[n], t) for n, t in first.payload.items()), "told once"
    other = own.run(task, dict(moved[1]), lambda _: b"")
    assert not torch.allclose(other.payload["decoder.0.weight"], first.payload["decoder.0.weight"])
    with pytest.raises(PolicyError, match="4 of 4 noised steps are done, and 2 more are asked for"):
        own.run(task, dict(moved[2]), lambda _: b"")


def test_noise_on_own_images_depends_on_all_inputs_and_on_the_sites_secret_alone_otherwise():
    spending = Spending(None, "secret", "digest", False, None, None)  # type: ignore[arg-type]
    keys = {spending.key("a", 0, inputs) for inputs in ("x", "y")}
    assert len(keys | {replace(spending, secret="other").key("a", 0, "x")}) == 3
    of_phantoms = replace(spending, phantoms=True)
    assert of_phantoms.key("a", 0, "x") == of_phantoms.key("a", 0, "y")


def test_jobs_with_the_same_images_add_up_until_the_policy_refuses_with_the_number(tmp_path):
    for site in ("north", "south", "west"):
        private(tmp_path, site)
    policy = with_limits(OPEN, weights={"max_total_epsilon": 6.0, "max_delta": 1e-4})
    write_policy(tmp_path / "home/south", policy)
    run_job(own_sets(), tmp_path)
    second = run_job(own_sets(seed=8), tmp_path)
    (failure, *_) = second.results["failures"]
    assert failure["site"] == "south"
    assert "max_total_epsilon is 6" in failure["reason"]
    assert "earlier jobs have spent ε = 4 " in failure["reason"]
    assert set(second.results["sites"]) == {"north", "west"}


def test_the_template_policy_admits_what_is_private_and_refuses_what_is_not():
    def admits(job: Path) -> bool:
        found = family_of("generative").disclosures(load_job(job)[0])
        try:
            check_disclosures(DEFAULT, "site", found, recorded=False)
        except PolicyError:
            return False
        return True

    jobs = sorted((REPOSITORY / "jobs").glob("dpcvae*"))
    refused = {path.name.removeprefix("dpcvae_") for path in jobs if not admits(path)}
    assert refused == {"without_dp", "fedavg", "fedprox", "fedlambda", "dp_fedavg"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"header": Header("dino", "ab", "", get_task("brain_tumour").classes)}, "embeddings of dino"),
        ({"labels": torch.full((40,), 4)}, "none of the classes 0 to 3"),
        ({"embeddings": torch.full((40, 12), float("inf"))}, "is not finite"),
        ({"labels": torch.zeros(40, dtype=torch.int64), "splits": torch.zeros(40, dtype=torch.int64)}, None),
        ({"embeddings": draw(40, 5)}, "5 numbers, fewer than the 8 of features.dimension"),
        ({"embeddings": torch.full((40, 12), float("nan"))}, "is not finite"),
        ({"embeddings": torch.cat((torch.full((40, 2), 7.0), draw(40, 10)), dim=1)}, None),
    ],
)
def test_one_sites_bad_set_is_its_own_fault_and_a_poor_one_is_trained_on(changes, said, tmp_path):
    for site in ("north", "south", "west"):
        private(tmp_path, site)
    private(tmp_path, "south", **changes)
    results = run_job(own_sets(), tmp_path).results
    if said is None:
        assert results["failures"] == []
        assert results["sites"]["south"]["test"]["balanced_accuracy"] is not None
    else:
        assert {failure["site"] for failure in results["failures"]} == {"south"}
        assert all(said in failure["reason"] for failure in results["failures"])


def test_few_images_warn_of_a_delta_that_would_allow_to_give_one_away(tmp_path, caplog):
    config = config_of(CVAE, privacy={"epsilon": 4.0, "delta": 0.2})
    with caplog.at_level(logging.WARNING):
        create_site(family_of("generative"), "north", config, tmp_path, "run", CPU)
    assert "δ = 0.2 is not below 1 / 14" in caplog.text


def test_a_delta_of_one_and_an_epsilon_of_zero_are_refused():
    with pytest.raises(ConfigError, match="delta must be below 1, not 1"):
        config_of(CVAE, privacy={"epsilon": 4.0, "delta": 1.0})
    with pytest.raises(ConfigError, match="epsilon must be positive"):
        config_of(CVAE, privacy={"epsilon": 0.0})


def test_a_synthetic_set_is_kept_with_its_guarantee_and_reads_as_a_set(tmp_path):
    run_job(config_of(CVAE), tmp_path)
    content = read_set(tmp_path / "results/north/files/north/synthetic.safetensors")
    assert (content.header.synthetic, content.header.epsilon, content.header.delta) == (True, 4.0, 1e-4)
    assert content.header.space == "features-8"
    assert torch.bincount(content.labels).tolist() == [2] * 7
    torch.testing.assert_close(content.embeddings.norm(dim=1), torch.full((14,), 8**0.5))


def test_what_travels_is_the_decoder_and_nothing_else(tmp_path):
    federation = Federation(config_of("generative cvae without noise"), tmp_path)
    task = federation.open_next()
    outcome = federation.work("north", task)
    assert {name.split(".")[0] for name in outcome.payload} == {"decoder"}
    size = sum(tensor.numel() * 4 for tensor in outcome.payload.values())
    assert outcome.reports["north"]["wire"]["up"] == size


def test_fedprox_with_mu_0_is_fedavg(tmp_path):
    plain = {"privacy": {"epsilon": None}}
    prox = config_of("generative fedprox", algorithm={"name": "fedprox", "args": {"mu": 0.0}}, **plain)
    average = config_of("generative fedprox", algorithm={"name": "fedavg"}, **plain)
    one, other = run_job(prox, tmp_path / "prox"), run_job(average, tmp_path / "average")
    assert equal_models(one, other)
    far = config_of("generative fedprox", algorithm={"name": "fedprox", "args": {"mu": 5.0}}, **plain)
    assert not equal_models(run_job(far, tmp_path / "far"), other)


@pytest.mark.parametrize("name", ["local", "gaussians", "fedavg"])
def test_other_algorithms_run_to_their_results_and_go_on_after_a_stop(name, tmp_path):
    config = config_of(CVAE, algorithm={"name": name})
    whole = run_job(config, tmp_path / "whole")
    Federation(config, tmp_path / "stopped").run(tasks=1)
    resumed = run_job(replace(config, resume_from="latest"), tmp_path / "stopped")
    assert resumed.numbers() == whole.numbers()
    assert equal_models(resumed, whole)
    if name == "gaussians":
        made = entries(tmp_path / "whole/home/north", "releases")
        assert [entry["count"] for entry in made] == [1]


def test_one_participant_with_the_data_of_all_tests_every_site(tmp_path):
    config = config_of(CVAE, algorithm={"name": "centralised"}, min_sites=1)
    run = run_job(config, tmp_path)
    assert set(run.results["sites"]) == set(config.sites)
    assert [one["kind"] for one in run.results["privacy"]["disclosures"]] == ["scores"]
    with pytest.raises(ConfigError, match="only 'pooled' takes part"):
        family_of("generative").check(config, list(config.sites))


def test_mixtures_reach_from_one_classifier_to_the_other():
    torch.manual_seed(0)
    own, others, x = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3), draw(5, 4)
    both = Classifiers(own, others)
    torch.testing.assert_close(both.log_probabilities(x, 1.0), own(x).log_softmax(dim=1))
    torch.testing.assert_close(both.log_probabilities(x, 0.0), others(x).log_softmax(dim=1))
    half = (own(x).softmax(dim=1) + others(x).softmax(dim=1)) / 2
    torch.testing.assert_close(both.log_probabilities(x, 0.5).exp(), half)
    assert best_mixture({"0.0": 0.2, "0.3": 0.9, "0.4": 0.9, "0.5": 0.9, "1.0": 0.1}) == 0.4


def test_sites_of_two_tasks_or_of_images_and_fedprox_with_noise_are_refused():
    sites = {"north": {"task": "brain_tumour"}, "south": {"task": "white_cell"}}
    cases = [
        ({"sites": sites}, "need one task"),
        ({"sites": {"north": {"task": "kvasir"}}}, "has no embeddings"),
        ({"algorithm": {"name": "fedprox"}}, "trains without noise"),
    ]
    for changes, said in cases:
        config = config_of(CVAE, **changes)
        with pytest.raises(ConfigError, match=said):
            family_of("generative").check(config, list(config.sites))


def test_a_model_of_embeddings_is_no_network_of_images():
    config = config_of(CVAE)
    model = TrainedModel("north", get_task("phantom_kind"), config, family_of("generative"), {}, {})
    with pytest.raises(ModelError, match="classifies embeddings, not images"):
        model.network()
    assert "ε = 4, δ = 0.0001" in model.description
    assert Guarantee(4.0, 1e-4) == config.privacy.guarantee
    assert METHODS[CVAE]["method"] == "generative"
