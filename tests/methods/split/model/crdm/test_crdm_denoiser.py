import pytest
import torch

from mucald.errors import ConfigError
from mucald.methods.split.model.crdm.denoiser import ConditionalDenoiser, timestep_embedding
from mucald.methods.split.model.crdm.schedule import CosineSchedule
from mucald.randomness import normal, seeded_initialisation

SCHEDULE = CosineSchedule()


def _denoiser(n_nodes: int = 4) -> ConditionalDenoiser:
    with seeded_initialisation("denoiser"):
        return ConditionalDenoiser(4, n_nodes, SCHEDULE, width=16, embedding=8)


@pytest.mark.parametrize(("channels", "parameters"), [(32, 460_960), (64, 534_720), (256, 977_280)])
def test_parameter_count(channels, parameters):
    assert sum(p.numel() for p in ConditionalDenoiser(channels, 4, SCHEDULE).parameters()) == parameters


def test_timestep_embedding():
    embedded = timestep_embedding(torch.tensor([0, 3]), 4)
    angles = torch.tensor([3.0, 3.0 / 100])
    torch.testing.assert_close(embedded[0], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    torch.testing.assert_close(embedded[1], torch.cat([angles.cos(), angles.sin()]))


def test_gain_is_bounded_at_every_level():
    denoiser = _denoiser()
    largest = []
    with torch.no_grad():
        for level in (0, 200, 398, 399):
            x_t = normal((2, 4, 16, 16), "x", level)
            largest.append(denoiser(x_t, torch.full((2,), level), normal((2, 4), "z")).abs().max())
    # Input and output are of order one; a network that predicts noise would reach 8 000 at level 399.
    assert max(largest) < 10


def test_v_prediction_recovers_the_latent_from_the_true_v():
    denoiser, t = _denoiser(), torch.tensor([350, 399])
    x, noise = normal((2, 4, 8, 8), "x"), normal((2, 4, 8, 8), "noise")
    signal, spread = SCHEDULE.scales(t, x)
    x_t = SCHEDULE.noised(x, t, noise)
    # Salimans & Ho: v = √ᾱ ε − √(1−ᾱ) x. The last layer is made to give it whatever comes in.
    denoiser.conv_out.register_forward_hook(lambda *_: signal * noise - spread * x)
    torch.testing.assert_close(denoiser(x_t, t, normal((2, 4), "z")), x, atol=1e-5, rtol=1e-5)


def test_film_scales_and_shifts_the_normalised_features():
    block = _denoiser().blocks[0]
    h, c = normal((2, 16, 8, 8), "h"), normal((2, 16), "c")
    gamma, beta = block.film(c)[:, :16], block.film(c)[:, 16:]
    plain = block.norm(block.conv(h)) * (1 + gamma)[:, :, None, None] + beta[:, :, None, None]
    torch.testing.assert_close(block(h, c), plain * plain.sigmoid())


def test_level_and_causal_variables_condition_the_estimate():
    denoiser, x_t, z = _denoiser(), normal((1, 4, 8, 8), "x"), normal((1, 4), "z").requires_grad_()
    estimate = denoiser(x_t, torch.tensor([200]), z)
    assert not torch.equal(estimate, denoiser(x_t, torch.tensor([201]), z))
    estimate.square().sum().backward()
    assert bool((z.grad != 0).all())


def test_without_causal_variables():
    denoiser, x_t = _denoiser(n_nodes=0), normal((1, 4, 8, 8), "x")
    assert denoiser(x_t, torch.tensor([200])).shape == x_t.shape
    with pytest.raises(ConfigError, match="0 causal variables, got 4"):
        denoiser(x_t, torch.tensor([200]), normal((1, 4), "z"))
    with pytest.raises(ConfigError, match="4 causal variables, got 0"):
        _denoiser()(x_t, torch.tensor([200]))


@pytest.mark.parametrize(
    ("setting", "named"),
    [({"width": 20}, "multiple of 8"), ({"embedding": 7}, "even")],
)
def test_wrong_setting(setting, named):
    with pytest.raises(ConfigError, match=named):
        ConditionalDenoiser(4, 4, SCHEDULE, **setting)
