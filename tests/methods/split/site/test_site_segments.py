import math

import pytest
import torch
from tiny_job import CPU, draw, equal_tensors, tiny_config

from mucald.errors import TrainingError
from mucald.methods.split.algorithms import make_algorithm
from mucald.methods.split.site.release import Release, Released
from mucald.methods.split.site.segments import SiteSegments

KEY = (3, 5, "train")
IMAGES = draw(2, 3, 16, 16).sigmoid()
LABELS = (draw(2, 16, 16, seed=1) > 0).long()
UNCLIPPED = {"optimiser": {"clip_norm": 1e9}}


def make(*changes, site: str = "north", secret: str = "a secret") -> SiteSegments:
    config = tiny_config(*changes)
    release = Release(config.release, secret, site)
    return SiteSegments(config, make_algorithm(config.algorithm), site, 2, release, CPU)


def identity(released: Released) -> torch.Tensor:
    """Return what was released, as a server without networks would."""
    return released.latent.detach()


def passed(gradient: torch.Tensor) -> torch.Tensor:
    return gradient


def nothing(gradient: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(gradient)


def gradients(segments: SiteSegments) -> dict[str, torch.Tensor]:
    modules = {"front_end": segments.front_end, "back_end": segments.back_end}
    return {
        f"{part}.{n}": p.grad.clone()
        for part, module in modules.items()
        for n, p in module.named_parameters()
    }


def test_a_step_equals_that_of_one_network():
    """The front end's two gradients, through the wire and through the skips, are those of the whole."""
    split, whole = make(UNCLIPPED), make(UNCLIPPED)
    result = split.train_step(IMAGES, LABELS, KEY, identity, passed)
    latent, skips = whole.front_end(IMAGES)
    released = Release(tiny_config().release, "a secret", "north").latent(latent, *KEY).latent
    terms = whole.loss.terms(whole.back_end(released, skips), LABELS)
    loss = terms["dice"] + 0.5 * terms["cross_entropy"]
    loss.backward()
    expected = gradients(whole)
    for name, gradient in gradients(split).items():
        torch.testing.assert_close(gradient, expected[name], msg=name, atol=1e-6, rtol=1e-4)
    whole.optimiser.step()
    for name, weight in split.weights().items():
        torch.testing.assert_close(weight, whole.weights()[name], msg=name, atol=1e-5, rtol=1e-3)
    assert result.losses["segmentation"] == pytest.approx(loss.item(), rel=1e-5)
    assert set(result.losses) == {"dice", "cross_entropy", "segmentation"}
    for part in ("front_end", "back_end"):
        norm = math.sqrt(sum(float(g.square().sum()) for n, g in expected.items() if n.startswith(part)))
        assert result.gradients[part] == pytest.approx(norm, rel=1e-3)


def test_the_server_gets_the_gradient_of_the_sites_loss_and_its_answer_reaches_the_front_end():
    sent = []

    def server(gradient: torch.Tensor) -> torch.Tensor:
        sent.append(gradient.clone())
        return gradient

    with_answer, without = make(UNCLIPPED), make(UNCLIPPED)
    with_answer.train_step(IMAGES, LABELS, KEY, identity, server)
    without.train_step(IMAGES, LABELS, KEY, identity, nothing)
    assert float(sent[0].abs().max()) > 0
    one, other = gradients(with_answer), gradients(without)
    assert not torch.equal(one["front_end.to_latent.weight"], other["front_end.to_latent.weight"])
    assert bool((other["front_end.to_latent.weight"] == 0).all()), "no other way leads there"
    assert all(torch.equal(one[name], other[name]) for name in one if name.startswith("back_end"))


def test_gradients_are_clipped_together_and_reported_as_they_were():
    segments = make({"optimiser": {"clip_norm": 0.001}})
    reported = segments.train_step(IMAGES, LABELS, KEY, identity, passed).gradients
    clipped = math.sqrt(sum(float(g.square().sum()) for g in gradients(segments).values()))
    assert clipped == pytest.approx(0.001, rel=1e-2)
    assert math.hypot(*reported.values()) > 0.01


def test_the_first_weights_cannot_be_told_from_what_the_server_knows():
    """Job and site name do not suffice: whoever has the front end inverts the latent."""
    assert equal_tensors(make().weights(), make().weights())
    for other in (make(secret="another secret"), make({"seed": 8})):
        drawn = [name for name in other.weights() if name.endswith("conv.weight")]
        assert {name.split(".")[0] for name in drawn} == {"front_end", "back_end"}
        assert not any(torch.equal(other.weights()[name], make().weights()[name]) for name in drawn)


def test_what_is_not_finite_is_named_with_site_round_and_step():
    with pytest.raises(TrainingError, match="latent of site 'north' is not finite at round/step 3/5"):
        make().train_step(IMAGES * math.nan, LABELS, KEY, identity, passed)
    segments = make()
    with torch.no_grad():
        segments.back_end.classify.weight.fill_(math.nan)
    with pytest.raises(
        TrainingError, match="segmentation loss of site 'north' is not finite at round/step 3/5"
    ):
        segments.train_step(IMAGES, LABELS, KEY, identity, passed)


def test_a_gradient_that_overflows_spoils_no_weight():
    segments, untouched = make(), make()
    with pytest.raises(TrainingError, match="gradient of the front_end of site 'north' is not finite"):
        segments.train_step(IMAGES, LABELS, KEY, identity, lambda gradient: torch.full_like(gradient, 1e38))
    assert equal_tensors(segments.weights(), untouched.weights())


def test_a_prediction_comes_with_what_the_site_can_do_alone():
    segments, before = make(), make().weights()
    logits, alone = segments.predict(IMAGES, KEY, identity)
    latent, skips = segments.front_end(IMAGES)
    zeros = torch.zeros_like(latent)
    torch.testing.assert_close(alone, segments.back_end(zeros, skips))
    assert not torch.equal(logits, alone)
    assert not logits.requires_grad
    assert equal_tensors(segments.weights(), before)


def test_prediction_uses_running_statistics_and_training_renews_them():
    """A network left in training mode would normalise each batch by itself."""
    segments = make({"network": {"norm": "batch"}})
    before = {name: tensor.clone() for name, tensor in segments.weights().items()}
    whole, _ = segments.predict(IMAGES, KEY, lambda released: torch.zeros_like(released.latent))
    first, _ = segments.predict(IMAGES[:1], KEY, lambda released: torch.zeros_like(released.latent))
    torch.testing.assert_close(whole[:1], first)
    assert equal_tensors(segments.weights(), before)
    segments.train_step(IMAGES, LABELS, KEY, identity, passed)
    assert any("running_mean" in n and not torch.equal(t, before[n]) for n, t in segments.weights().items())


def test_the_best_weights_come_back_and_a_restored_site_goes_on_as_if_nothing_had_happened():
    whole, resumed = make(), make()
    whole.keep_best()
    best = {name: tensor.clone() for name, tensor in whole.weights().items()}
    whole.train_step(IMAGES, LABELS, KEY, identity, passed)
    resumed.load_state({name: tensor.clone() for name, tensor in whole.state().items()})
    for segments in (whole, resumed):
        segments.train_step(IMAGES, LABELS, (3, 6, "train"), identity, passed)
    assert equal_tensors(whole.state(), resumed.state())
    assert not equal_tensors(whole.weights(), best)
    for segments in (whole, resumed):
        segments.load_best()
        assert equal_tensors(segments.weights(), best)
