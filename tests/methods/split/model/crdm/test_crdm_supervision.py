import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mucald.errors import ConfigError
from mucald.methods.split.model.crdm.denoiser import ConditionalDenoiser
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.methods.split.model.crdm.supervision import (
    SUPERVISION,
    Observation,
    ambient,
    epsilon,
    supervised,
    sure,
)
from mucald.randomness import normal, seeded_initialisation

SCHEDULE = CosineSchedule()
VARIANCE = 1.7  # of the synthetic latents
SHAPE = (8, 4, 16, 16)


def _latent(draw: int) -> Tensor:
    return math.sqrt(VARIANCE) * normal(SHAPE, "latent", draw)


def _observation(draw: int, level: int) -> tuple[Tensor, Observation]:
    x, noise, t = _latent(draw), normal(SHAPE, "noise", draw), torch.full(SHAPE[:1], level)
    return x, Observation(SCHEDULE.noised(x, t, noise), t, noise=noise)


def _network(channels: int = 4) -> ConditionalDenoiser:
    with seeded_initialisation("network"):
        return ConditionalDenoiser(channels, 0, SCHEDULE, width=16, embedding=8)


def _vertex(loss) -> float:
    """Return where a quadratic function of one number is least."""
    left, middle, right = (float(loss(a)) for a in (-1.0, 0.0, 1.0))
    return 0.5 * (left - right) / (left - 2 * middle + right)


def _wiener_gain(level: int) -> float:
    """Return the best a in x̂0 = a·x_t for independent elements of variance VARIANCE."""
    alpha_bar = float(SCHEDULE.alpha_bar(level))
    return math.sqrt(alpha_bar) * VARIANCE / (alpha_bar * VARIANCE + 1 - alpha_bar)


BEST_ELEMENTWISE_ERROR = VARIANCE * (1 - _wiener_gain(200) * float(SCHEDULE.alpha_bar(200).sqrt()))


@pytest.mark.parametrize("level", [200, 300])
@pytest.mark.parametrize("gain", [0.2, 0.9])
def test_sure_of_a_linear_denoiser_is_its_analytic_risk(level, gain):
    alpha_bar = float(SCHEDULE.alpha_bar(level))
    risk = (gain * math.sqrt(alpha_bar) - 1) ** 2 * VARIANCE + gain**2 * (1 - alpha_bar)
    estimates = torch.stack(
        [
            sure(lambda x_t, _: gain * x_t, _observation(draw, level)[1], SCHEDULE, ("k", draw))
            for draw in range(40)
        ]
    )
    error = float(estimates.std()) / math.sqrt(40)
    assert float(estimates.mean()) == pytest.approx(risk, abs=4 * error)
    assert error < 0.03 * risk


@pytest.mark.parametrize("level", [200, 300])
def test_sure_of_a_network_is_its_true_error(level):
    network, differences, errors = _network(), [], []
    with torch.no_grad():
        for draw in range(40):
            x, observation = _observation(draw, level)
            error = supervised(network, observation, x)
            differences.append(sure(network, observation, SCHEDULE, ("k", draw)) - error)
            errors.append(error)
    difference = torch.stack(differences)
    standard_error = float(difference.std()) / math.sqrt(40)
    assert abs(float(difference.mean())) < 4 * standard_error
    assert standard_error < 0.02 * float(torch.stack(errors).mean())


@pytest.mark.parametrize("level", [200, 300])
def test_sure_is_least_at_the_wiener_filter(level):
    def loss(gain: float) -> Tensor:
        return sum(
            sure(lambda x_t, _: gain * x_t, _observation(draw, level)[1], SCHEDULE, ("k", draw))
            for draw in range(20)
        )

    assert _vertex(loss) == pytest.approx(_wiener_gain(level), rel=0.05)


def test_sure_has_the_gradient_of_the_exact_divergence():
    """The finite difference in float32 against double backward in float64, per parameter of a network."""
    network, key = _network(), ("k", 0)
    _, observation = _observation(0, 300)
    sure(network, observation, SCHEDULE, key).backward()
    got = torch.cat([p.grad.flatten() for p in network.parameters()])

    network.double().zero_grad()
    x_t = observation.x_t.double().requires_grad_()
    estimate = network(x_t, observation.t)
    probe = torch.sign(normal(SHAPE, "another probe").double())
    exact = []
    for sign in (probe, _probe_of(observation, key).double()):
        (pulled,) = torch.autograd.grad(estimate, x_t, sign, create_graph=True)
        variance, signal = 1 / SCHEDULE.snr(300), SCHEDULE.alpha_bar(300).sqrt()
        risk = ((estimate - x_t.detach() / signal) ** 2).mean() + 2 * variance * signal * (
            pulled * sign
        ).mean()
        grads = torch.autograd.grad(risk, list(network.parameters()), retain_graph=True)
        exact.append(torch.cat([g.flatten() for g in grads]).float())
    other, same = exact
    assert float((got - same).norm()) < 0.03 * float((other - same).norm())


def _probe_of(observation: Observation, key) -> Tensor:
    """Read the probe off the loss: it is the direction in which the denoiser is moved."""
    seen = []

    def record(x_t: Tensor, _: Tensor) -> Tensor:
        seen.append(x_t)
        return x_t

    sure(record, observation, SCHEDULE, key)
    return torch.sign(seen[1] - seen[0])


def test_sure_treats_each_sample_at_its_own_level():
    _, first = _observation(0, 200)
    _, second = _observation(1, 300)
    both = Observation(torch.cat([first.x_t, second.x_t]), torch.cat([first.t, second.t]))

    def denoise(x_t: Tensor, _: Tensor) -> Tensor:
        return 0.5 * x_t

    # The divergence of a linear denoiser does not depend on the probe.
    apart = [sure(denoise, one, SCHEDULE, ("k",)) for one in (first, second)]
    torch.testing.assert_close(sure(denoise, both, SCHEDULE, ("k",)), sum(apart) / 2, rtol=1e-4, atol=1e-4)


def test_ambient_is_least_at_the_supervised_optimum_of_every_level():
    short = CosineSchedule(timesteps=8)
    gains = torch.zeros(8, requires_grad=True)
    t = torch.full(SHAPE[:1], 4)

    def gradient() -> Tensor:
        total = torch.zeros(())
        for draw in range(150):
            x_t = short.noised(_latent(draw), t, normal(SHAPE, "noise", draw))
            denoise = lambda x_s, s: gains[s].view(-1, 1, 1, 1) * x_s  # noqa: E731
            total = total + ambient(denoise, Observation(x_t, t), short, ("k", draw))
        return torch.autograd.grad(total, gains)[0]

    # Quadratic and separate in the gains: one Newton step from zero is the optimum.
    at_zero = gradient()
    with torch.no_grad():
        gains.fill_(1)
    curvature = gradient() - at_zero
    assert at_zero[:5].tolist() == [0] * 5, "levels up to t are never trained"
    for s in (5, 6):
        alpha_bar = float(short.alpha_bar(s))
        wiener = math.sqrt(alpha_bar) * VARIANCE / (alpha_bar * VARIANCE + 1 - alpha_bar)
        assert float(-at_zero[s] / curvature[s]) == pytest.approx(wiener, rel=0.05)


def test_ambient_trains_all_noisier_levels_and_no_other():
    seen = []

    def record(x_s: Tensor, s: Tensor) -> Tensor:
        seen.append(s)
        return x_s

    for draw in range(40):
        ambient(record, _observation(0, 395)[1], SCHEDULE, ("k", draw))
    assert set(torch.cat(seen).tolist()) == {396, 397, 398, 399}


def test_ambient_needs_a_noisier_level():
    with pytest.raises(ConfigError, match="below 399"):
        ambient(lambda x_t, _: x_t, _observation(0, 399)[1], SCHEDULE, ("k",))


def test_epsilon_is_the_denoising_error_times_the_snr():
    x, observation = _observation(0, 300)
    network = _network()
    expected = supervised(network, observation, x) * SCHEDULE.snr(300)
    torch.testing.assert_close(epsilon(network, observation, SCHEDULE, ()), expected, rtol=1e-4, atol=0)
    assert float(epsilon(lambda *_: x, observation, SCHEDULE, ())) < 1e-10


def test_epsilon_needs_the_noise():
    _, observation = _observation(0, 300)
    with pytest.raises(ConfigError, match="noise of the release"):
        epsilon(_network(), Observation(observation.x_t, observation.t), SCHEDULE, ())


def test_supervised_does_not_pull_the_features():
    x, observation = _observation(0, 300)
    network = _network()
    x.requires_grad_()
    loss = supervised(network, observation, x)
    loss.backward()
    assert x.grad is None
    torch.testing.assert_close(loss, ((network(observation.x_t, observation.t) - x) ** 2).mean())


@pytest.mark.parametrize("name", ["sure", "ambient", "epsilon"])
def test_every_loss_trains_the_network_and_spares_the_release(name):
    network, (_, observation) = _network(), _observation(0, 300)
    observation.x_t.requires_grad_()
    SUPERVISION[name](network, observation, SCHEDULE, ("k",)).backward()
    assert observation.x_t.grad is None
    assert all(bool(p.grad.abs().sum() > 0) for p in network.parameters())


@pytest.mark.parametrize("name", ["sure", "ambient"])
def test_draws_are_named_by_the_key(name):
    network, (_, observation) = _network(), _observation(0, 300)
    value, again, other = (
        SUPERVISION[name](network, observation, SCHEDULE, key) for key in (("a",), ("a",), ("b",))
    )
    assert torch.equal(value, again)
    assert not torch.equal(value, other)


def _error_after_training(loss) -> float:
    """Train a small network on blocky latents, where neighbours help, and return its error on new noise."""
    latents = 1.3 * interpolate(normal((32, 2, 4, 4), "coarse"), scale_factor=4)
    network, t = _network(channels=2), torch.full((8,), 200)

    def observed(rows: Tensor, draw: int) -> tuple[Tensor, Observation]:
        x = latents[rows]
        return x, Observation(SCHEDULE.noised(x, t, normal(tuple(x.shape), "noise", draw)), t)

    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for step in range(80):
        x, observation = observed((torch.arange(8) + 8 * step) % 32, step)
        optimiser.zero_grad()
        loss(network, observation, x, step).backward()
        optimiser.step()
    with torch.no_grad():
        x, observation = observed(torch.arange(8), -1)
        return float(supervised(network, observation, x))


def test_sure_learns_as_well_as_with_clean_latents():
    clean = _error_after_training(lambda network, observation, x, _: supervised(network, observation, x))
    blind = _error_after_training(
        lambda network, observation, _, step: sure(network, observation, SCHEDULE, (step,))
    )
    assert clean < 0.6 * BEST_ELEMENTWISE_ERROR, "the comparison must be with a network that learnt"
    assert blind < 1.1 * clean


def test_ambient_learns_what_neighbours_tell_without_clean_latents():
    error = _error_after_training(
        lambda network, observation, _, step: ambient(network, observation, SCHEDULE, (step,))
    )
    assert error < 0.8 * BEST_ELEMENTWISE_ERROR
