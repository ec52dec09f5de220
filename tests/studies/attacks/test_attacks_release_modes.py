"""What a run's way of releasing leaves to attack: images that cross once, again, and with the same noise."""

import pytest
import torch
from attacked import LITTLE, OF_GENERATORS, ONCE, attack, evaluation_of, heard_run
from tiny_job import EXACT_WIRE

from mucald.errors import AttackError
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.wire.messages import Field, Phase
from mucald_studies.attacks import ATTACKS
from mucald_studies.attacks.harness import traffic
from mucald_studies.attacks.harness.networks import PriorProbe
from mucald_studies.attacks.harness.view import View
from mucald_studies.attacks.hijack import _MaliciousServer
from mucald_studies.attacks.mask_inference import (
    _halves,
    averages,
    best_threshold,
    labelled,
    normalised,
    sub_averages,
)
from mucald_studies.recording import read_recording

TWICE = [name for name in ATTACKS if name.startswith("differencing")]


def of_north(heard, name: str) -> View:
    """Return what an attack sees of the first site."""
    subjects = evaluation_of(heard)._subjects
    return View(ATTACKS[name], subjects["north"], subjects, LITTLE)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in TWICE + OF_GENERATORS])
def test_every_attack_but_differencing_runs_on_images_that_crossed_once(name, once):
    result = attack(once, name).result
    assert result.n > 0
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in result.metrics.values())


@pytest.mark.parametrize("name", TWICE)
def test_one_release_cannot_be_subtracted_from_another(name, once):
    with pytest.raises(AttackError, match="released once; there is no second release to subtract"):
        attack(once, name)


def test_an_average_over_all_epochs_is_the_one_release(once):
    last, half, everything = (attack(once, f"averaging.{which}").result for which in ("last", "half", "all"))
    assert last.metrics == half.metrics == everything.metrics
    assert last.curve == everything.curve


def test_an_average_over_fresh_releases_is_another_than_the_last_release(noised):
    assert attack(noised, "averaging.last").result.metrics != attack(noised, "averaging.all").result.metrics


def test_what_crossed_once_is_taken_for_the_samples_that_it_shows(once):
    recording = read_recording(once.run.folder)
    sent = traffic.training(recording, "north", Field.LATENT, last_rounds=1)
    assert sent.rows.tolist() == [0, 1, 2, 3]
    assert sent.epochs.tolist() == [0] * 4
    subject = evaluation_of(once)._subjects["north"]
    clean = subject.clean(subject.segments, subject.data.train.whole().inputs)
    schedule = CosineSchedule(400)
    level = torch.full((4,), 300)
    signal, spread = schedule.scales(level, clean)
    noise = (sent.values - signal * clean) / spread
    assert float(noise.std()) == pytest.approx(1, abs=0.1), "int8 adds little"
    assert abs(float((noise * clean).mean())) < 0.1, "nothing of the latent is left in the noise"


def test_features_and_gradients_belong_to_the_samples_that_the_site_named(once):
    recording = read_recording(once.run.folder)
    named = [
        exchange.request.fields[Field.INDICES]
        for exchange in recording.exchanges("south", Phase.TRAIN_FORWARD_RELEASED)
    ]
    for field in (Field.FEATURES, Field.FEATURE_GRADIENT):
        sent = traffic.training(recording, "south", field)
        assert torch.equal(sent.rows, torch.cat(named).long())
        assert sent.epochs.unique().tolist() == [0, 1, 2, 3]
    assert traffic.training(recording, "south", Field.FEATURES, 1).epochs.unique().tolist() == [2, 3]


def test_the_truth_of_a_front_end_at_rest_is_that_of_its_first_release(once):
    subject = evaluation_of(once)._subjects["north"]
    expected = subject.clean(subject.segments, subject.data.train.whole().inputs)
    assert torch.allclose(subject.clean_releases(), expected, atol=1e-5)


def test_a_hijacked_site_that_releases_once_says_what_it_would_have_said(once):
    """Its front end is at rest before the server's first word, so no reply can change a release."""
    recording = read_recording(once.run.folder)
    heard: list[torch.Tensor] = []

    def listening(server, phase, asked):
        if phase is Phase.RELEASE:
            heard.append(asked[Field.LATENT])
        return answer(server, phase, asked)

    answer = _MaliciousServer._fields
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_MaliciousServer, "_fields", listening)
        result = attack(once, "hijack").result
    assert result.n == 4
    assert torch.equal(torch.cat(heard), traffic.training(recording, "north", Field.LATENT).values)


def test_a_difference_of_releases_that_repeat_their_noise_is_free_of_it(noised):
    """Nothing but float32's rounding is left."""
    result = attack(noised, "differencing.repeated_noise").result
    error, moved = (m["latent_mse"].value for m in (result.metrics, result.anchors["zero"]))
    assert moved > 1e-5
    assert error < 1e-6 * moved
    assert result.n == 4


def test_a_difference_of_fresh_releases_is_no_better_than_to_know_nothing(noised):
    result = attack(noised, "differencing.change").result
    assert result.metrics["latent_mse"].value > 0.9 * result.anchors["zero"]["latent_mse"].value


def test_a_difference_without_noise_is_the_change_itself(clean, tmp_path):
    assert attack(clean, "differencing.change").result.metrics["latent_mse"].value < 1e-10
    within = heard_run(
        tmp_path, release={"noised": False}, training={"rounds": 1, "local_epochs": 3}, wire=EXACT_WIRE
    )
    assert attack(within, "differencing.change").result.metrics["latent_mse"].value < 1e-10


def test_a_probe_learns_from_sub_averages_that_are_others_in_every_step(once):
    view = of_north(once, "mask_inference.gradient_average")
    draw, samples = sub_averages(view, Field.FEATURE_GRADIENT), torch.tensor([2, 0, 2])
    first, again, other = (draw(samples, view.key("drawn", step)) for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (3, 8, 8, 8)
    whole = averages(view, Field.FEATURE_GRADIENT).values[samples]
    stack = torch.stack(view.training(Field.FEATURE_GRADIENT).by_epoch(), dim=1)
    assert torch.equal(_halves(stack[samples], torch.ones(3, 4)), whole)


def test_what_is_in_doubt_is_labelled_where_that_fits_the_known_masks_best():
    masks = torch.zeros(2, 8, 8, dtype=torch.int64)
    masks[:, 2:6, 2:6] = 1
    foreground = torch.where(masks == 1, 0.3, 0.05)
    logits = torch.stack([1 - foreground, foreground], dim=1).log()
    assert not labelled(logits, 0.5).any()
    threshold = best_threshold(logits, masks)
    assert 0.05 < threshold <= 0.3
    assert torch.equal(labelled(logits, threshold), masks)


def test_a_probe_that_has_learnt_nothing_says_what_is_known_without_the_map():
    prior = torch.tensor([0.75, 0.25]).log()[:, None, None].expand(2, 8, 8)
    probe = PriorProbe(3, prior, 8)
    assert torch.allclose(probe(torch.randn(2, 3, 4, 4)), prior.expand(2, -1, -1, -1))


@pytest.mark.parametrize("field", [Field.FEATURE_GRADIENT, Field.FEATURES])
def test_an_average_holds_both_halves_of_all_epochs(field, once):
    view = of_north(once, "mask_inference.gradient_average")
    maps = averages(view, field)
    sent = view.training(field)
    assert maps.rows.tolist() == [0, 1, 2, 3]
    for row in range(4):
        own = sent.values[sent.rows == row]
        halves = [normalised(part.mean(dim=0, keepdim=True))[0] for part in (own[:2], own[2:])]
        assert torch.allclose(maps.values[row], torch.cat(halves), atol=1e-5)


def test_an_average_over_one_epoch_is_that_epoch(tmp_path):
    heard = heard_run(tmp_path, ONCE, training={"rounds": 1})
    view = of_north(heard, "mask_inference.gradient_average")
    maps = averages(view, Field.FEATURE_GRADIENT).values
    single = normalised(view.training(Field.FEATURE_GRADIENT).by_epoch()[0])
    assert torch.allclose(maps, torch.cat([single, single], dim=1))


def test_averages_over_epochs_have_less_of_a_gradients_noise(tmp_path):
    """Noise is new in every epoch, so over four of them half of its amplitude is left."""
    gradient = {"gradient_clip": 1e-6, "gradient_noise_std": 1.0}
    heard = heard_run(
        tmp_path, {"release": {**ONCE["release"], **gradient}}, training={"rounds": 4}, wire=EXACT_WIRE
    )
    view = of_north(heard, "mask_inference.gradient_average")
    sent = view.training(Field.FEATURE_GRADIENT)
    single = float(sent.values.std())
    assert single == pytest.approx(1e-6, rel=0.1)
    means = sent.averaged(sent.rows.unique())
    assert float(means.std()) == pytest.approx(single / 2, rel=0.1)
