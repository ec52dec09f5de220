"""The network that a round began with teaches the site during the round."""

import pytest
import torch
from families import config_of
from tiny_job import CPU, equal_models, equal_tensors, run_job, site_data
from torch import nn

from mucald.methods.weights.distillation import global_to_local
from mucald.tasks import get_task
from mucald.training.whole_model import WholeModel, no_terms

CONFIG = config_of("weights distilled")
TASK = get_task("kvasir")
OFF = config_of("weights distilled", distillation={"weight": 0.0, "warm_up": 0.0, "ramp": 0.0})


@pytest.fixture
def model():
    return WholeModel(CONFIG, {"north": site_data(CONFIG, "north")}, CPU)


def teacher_of(model, round_number=1, config=CONFIG):
    return global_to_local(config, round_number, TASK, model.weights("north"), CPU)


def test_it_is_the_divergence_of_the_pixels_classes(model):
    images = site_data(CONFIG, "north").train.batch(range(2)).inputs
    known = model.predict("north", images).softmax(dim=1)
    logits = torch.randn(known.shape, generator=torch.Generator().manual_seed(3), requires_grad=True)
    (term,) = teacher_of(model)(images, logits).values()
    divergence = sum(
        float((p * (p / q).log()).sum())
        for p, q in zip(
            *(t.movedim(1, -1).reshape(-1, 2) for t in (known, logits.detach().softmax(1))), strict=True
        )
    ) / (known.numel() / 2)
    assert float(term.detach()) == pytest.approx(0.5 * divergence, rel=1e-4)
    term.backward()
    assert logits.grad.abs().sum() > 0


def test_a_network_that_has_not_moved_learns_nothing_of_it_and_the_teacher_stays(model):
    data = site_data(CONFIG, "north")
    batch, term = data.train.batch(range(2)), teacher_of(model)
    logits = nn.Parameter(model.predict("north", batch.inputs))
    value = term(batch.inputs, logits)["distillation"]
    value.backward()
    assert abs(float(value.detach())) < 1e-6
    assert logits.grad.abs().max() < 1e-7
    result = model.train_step("north", batch.inputs, batch.targets, "1/0", extra=term)
    assert abs(result.losses["distillation"]) < 1e-6
    moved = model.predict("north", batch.inputs)
    assert float(term(batch.inputs, moved)["distillation"]) > 1e-5


def test_a_teacher_draws_nothing_from_the_generator_of_all_threads(model):
    before = torch.get_rng_state()
    assert teacher_of(model) is not no_terms
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_off_by_a_zero_to_the_bit(model, tmp_path):
    assert teacher_of(model, config=OFF) is no_terms
    runs = [run_job(OFF, tmp_path / "off"), run_job(config_of("weights fedavg"), tmp_path / "average")]
    assert runs[0].results["rounds"] == runs[1].results["rounds"]
    assert equal_models(*runs)


def test_its_ramp_decides_when_it_counts(model, tmp_path):
    assert teacher_of(model, round_number=0) is no_terms
    run, plain = run_job(CONFIG, tmp_path / "on"), run_job(config_of("weights fedavg"), tmp_path / "off")
    first, last = run.results["rounds"]
    assert first == plain.results["rounds"][0], "the warm-up is FedAvg to the bit"
    assert all(site["losses"]["distillation"] > 0 for site in last["sites"].values())
    assert all("distillation" not in site["losses"] for site in first["sites"].values())
    assert not equal_tensors(run.checkpoint("north", 2), plain.checkpoint("north", 2))


def test_it_holds_a_site_to_what_the_round_began_with(tmp_path):
    def moved(weight: float) -> float:
        config = config_of(
            "weights distilled",
            distillation={"weight": weight, "warm_up": 0.0, "ramp": 0.0},
            training={"rounds": 2, "local_epochs": 4, "batch_size": 2},
        )
        rounds = run_job(config, tmp_path / str(weight)).results["rounds"]
        return sum(site["losses"]["segmentation"] for site in rounds[-1]["sites"].values())

    assert moved(100.0) > 1.02 * moved(0.0), "who is held back learns less in a round"
