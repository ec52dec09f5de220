"""The samples that the attacker assigns to messages are those that the site sent."""

from collections import defaultdict

import pytest
import torch
from attacked import evaluation_of, heard_run
from tiny_job import EXACT_WIRE, run_job, tiny_config

from mucald.config.job import JobConfig
from mucald.data.augmentation import orientations
from mucald.data.loading import load_for
from mucald.data.order import epoch_batches
from mucald.errors import AttackError
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.site import method
from mucald.methods.split.wire.messages import Field, Phase
from mucald.tasks import get_task
from mucald_studies.attacks.harness import traffic
from mucald_studies.recording import read_recording


def test_the_order_is_the_one_in_which_a_site_goes_through_its_samples(tmp_path, monkeypatch):
    config = tiny_config(training={"local_epochs": 3, "rounds": 2})
    taken: dict[tuple[str, int], list[torch.Tensor]] = defaultdict(list)

    def noted(job: JobConfig, site: str, number: int, epoch: int, count: int) -> tuple[torch.Tensor, ...]:
        batches = epoch_batches(job, site, number, epoch, count)
        taken[site, number] += batches
        return batches

    monkeypatch.setattr(method, "epoch_batches", noted)
    run_job(config, tmp_path)
    for number in range(2):
        rows, epochs = traffic.sample_order(config, "north", number, 12)
        assert torch.equal(rows, torch.cat(taken["north", number]))
        assert epochs.tolist() == [3 * number + epoch for epoch in range(3) for _ in range(4)]


def test_a_training_sample_is_recognised_in_every_epoch(clean):
    """Without noise a sample's latents of two rounds are nearest to each other."""
    sent = traffic.training(read_recording(clean.run.folder), "north", Field.LATENT)
    assert len(sent.values) == 8
    first, second = (sent.values[sent.epochs == epoch] for epoch in (0, 1))
    rows = [sent.rows[sent.epochs == epoch] for epoch in (0, 1)]
    nearest = torch.cdist(first.flatten(1), second.flatten(1)).argmin(dim=1)
    assert torch.equal(rows[0], rows[1][nearest])


def test_the_mean_over_epochs_is_that_of_each_sample(noised):
    sent = traffic.training(read_recording(noised.run.folder), "south", Field.FEATURES)
    rows = torch.tensor([2, 0])
    averages = sent.averaged(rows)
    for row, average in zip(rows, averages, strict=True):
        own = [value for value, number in zip(sent.values, sent.rows, strict=True) if number == row]
        assert len(own) == 2
        assert torch.allclose(average, (own[0] + own[1]) / 2)


def test_the_last_rounds_alone_can_be_asked_for(noised):
    recording = read_recording(noised.run.folder)
    sent = traffic.training(recording, "north", Field.FEATURE_GRADIENT, last_rounds=1)
    assert sent.epochs.tolist() == [1] * 4
    assert sorted(sent.rows.tolist()) == [0, 1, 2, 3]


def test_what_never_crosses_is_named(noised):
    with pytest.raises(AttackError, match="NOISE does not cross in TRAIN_FORWARD"):
        traffic.training(read_recording(noised.run.folder), "north", Field.NOISE)


def test_the_ground_truth_is_that_of_the_run(noised):
    subject = evaluation_of(noised)._subjects["north"]
    config = tiny_config()
    data = load_for("north", config, noised.run.folder / "none", False)
    assert torch.equal(subject.data.train.pixels, data.train.pixels)
    # The sites run in turn, so the first messages are the first site's.
    expected = torch.cat(noised.clean[:2]).detach()
    assert torch.equal(subject.clean_releases(), expected)
    assert subject.segments is not None


def test_releases_of_a_front_end_at_rest_average_out_as_theory_says(tmp_path):
    """The error of k averaged releases, scaled back, is 1/(k SNR): the bound of Cramér and Rao."""
    still = dict.fromkeys(("segmentation", "causal", "denoiser", "weight_decay"), 0.0)
    training = {"rounds": 2, "local_epochs": 3}
    heard = heard_run(tmp_path, optimiser=still, training=training, wire=EXACT_WIRE, release={"t": 200})
    subject = evaluation_of(heard)._subjects["north"]
    schedule = CosineSchedule(400)
    sent = traffic.training(read_recording(heard.run.folder), "north", Field.LATENT)
    rows = torch.arange(4)
    clean = subject.clean(subject.segments, subject.data.train.whole().inputs)
    signal, snr = float(schedule.alpha_bar(200)) ** 0.5, float(schedule.snr(200))
    errors = []
    for epochs in (1, 6):
        chosen = sent.epochs < epochs
        some = traffic.Sent(sent.values[chosen], sent.rows[chosen], sent.epochs[chosen])
        averages = some.averaged(rows)
        errors.append(float((averages / signal - clean).square().mean()))
    assert errors == [pytest.approx(1 / snr, rel=0.1), pytest.approx(1 / (6 * snr), rel=0.1)]


def test_what_crossed_of_a_sample_that_was_turned_is_turned_back(tmp_path):
    once = {"mode": "once", "pretraining_epochs": 1}
    config = tiny_config(
        release=once, training={"augmentation": 1.0}, wire=EXACT_WIRE, runtime={"record": True}
    )
    run_job(config, tmp_path)
    recording = read_recording(tmp_path)
    sent = traffic.training(recording, "north", Field.FEATURE_GRADIENT)
    turned = 0
    for number, exchange in enumerate(recording.exchanges("north", Phase.TRAIN_BACKWARD_RELEASED)):
        crossed, found = exchange.request.fields[Field.FEATURE_GRADIENT], sent.values[2 * number :][:2]
        names = get_task("kvasir"), exchange.request.round, exchange.request.step
        assert torch.equal(orientations(config, "north", *names, 2).of(found), crossed)
        turned += not torch.equal(found, crossed)
    assert turned > 0
