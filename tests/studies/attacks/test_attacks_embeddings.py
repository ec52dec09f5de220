"""Attacks on runs over embeddings: on what all share, and on what follows from it alone."""

import json
from pathlib import Path

import pytest
import torch
from attacked import LITTLE
from attacked import kept_attack as attack
from attacked import kept_evaluation as evaluation_of
from families import config_of
from tiny_job import Run, run_job

from mucald.data.embeddings.sets import read_set
from mucald.errors import AttackError
from mucald.methods.generative.features import features
from mucald.state.checkpoint import load_checkpoint, save_checkpoint
from mucald_studies.attacks import ATTACKS
from mucald_studies.attacks.harness.view import View

MEMBERSHIP = [name for name, attack in ATTACKS.items() if not attack.reads_messages]
FEW = {"image_size": 32, "phantoms": {"train": 14, "validation": 7, "test": 7, "class_skew": 0.3}}


@pytest.fixture(scope="module")
def decoder(tmp_path_factory) -> Run:
    return run_job(config_of("generative cvae", data=FEW), tmp_path_factory.mktemp("decoder"))


@pytest.mark.parametrize("name", MEMBERSHIP)
def test_a_shared_decoder_is_attacked(name, decoder):
    result = attack(decoder, name).result
    assert (result.run_id, result.site, result.n) == (decoder.results["run_id"], "north", 14 + 200)
    assert result.anchors["chance"]["auc"].value == 0.5


def test_the_attacker_draws_the_synthetic_set_that_the_site_has(decoder):
    subject = evaluation_of(decoder)._subjects["north"]
    view = View(ATTACKS["membership.synthetic"], subject, {"north": subject}, LITTLE)
    kept = read_set(next(decoder.folder.rglob("north/synthetic.safetensors")))
    assert torch.equal(view.synthetic().inputs, kept.embeddings)
    assert torch.equal(view.synthetic().targets, kept.labels)


def test_others_are_of_the_sites_classes_and_none_of_its_own(decoder):
    """If their classes were others, who knows the classes alone would win."""
    subject = evaluation_of(decoder)._subjects["north"]
    candidates, trained_on = subject.candidates(0)
    own, known = candidates.targets[trained_on], candidates.targets[~trained_on]
    assert set(known.tolist()) == set(own.tolist())
    assert len(own.unique()) < 7, "or the site would have every class"
    distances = torch.cdist(candidates.inputs[trained_on], candidates.inputs[~trained_on])
    assert float(distances.min()) > 0.01
    train = features(subject.data.train, subject._run.config.features)
    assert float(torch.cdist(candidates.inputs[trained_on], train).min(dim=1).values.max()) == 0


def test_a_shared_classifier_is_attacked_and_draws_nothing(tmp_path):
    run = run_job(config_of("generative classifier"), tmp_path)
    assert attack(run, "membership.loss").result.n == 14 + 200
    with pytest.raises(AttackError, match="'fedlambda' shares a classifier, which draws nothing"):
        attack(run, "membership.synthetic")


def test_members_of_a_copying_decoder_are_found_out(decoder, monkeypatch):
    evaluation = evaluation_of(decoder)
    subject = evaluation._subjects["north"]
    monkeypatch.setattr(subject, "synthetic", subject.samples(subject.data.train))
    result = evaluation.attack(ATTACKS["membership.synthetic"], "north", LITTLE).result
    assert result.metrics["auc"].low > 0.9


def test_a_site_that_shares_nothing_is_refused(tmp_path):
    run = run_job(
        config_of("generative cvae", algorithm={"name": "local"}, privacy={"epsilon": None}), tmp_path
    )
    with pytest.raises(AttackError, match="'local' shares no weights; there is nothing to attack"):
        evaluation_of(run)


def test_what_is_not_the_runs_is_noticed(tmp_path):
    run = run_job(config_of("generative cvae"), tmp_path)
    path = run.server / "results.json"
    content = json.loads(path.read_text())
    content["sites"]["north"]["classifiers"]["shared"] += 0.5
    path.write_text(json.dumps(content))
    with pytest.raises(AttackError, match=r"'north' are not those of the run: .* with --home"):
        attack(run, "membership.loss")
    _rewrite(run.server / "models/shared.safetensors")
    with pytest.raises(AttackError, match=r"shared\.safetensors is of another job or seed"):
        attack(run, "membership.loss")


def _rewrite(path: Path) -> None:
    weights, state = load_checkpoint(path)
    save_checkpoint(path, weights, state | {"config": state["config"] | {"seed": 8}})
