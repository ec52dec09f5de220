import pytest
import torch
from torch.nn.functional import conv2d

from mucald.errors import ConfigError
from mucald.methods.split.model.crdm.exogenous import LOGVAR_LIMIT, ExogenousEncoder, sample
from mucald.randomness import normal, seeded_initialisation


def _encoder(channels: int = 4, n_nodes: int = 4, width: int = 16) -> ExogenousEncoder:
    with seeded_initialisation("test"):
        return ExogenousEncoder(channels, n_nodes, width)


@pytest.mark.parametrize(("channels", "parameters"), [(32, 56_072), (64, 74_504), (256, 185_096)])
def test_parameter_count(channels, parameters):
    assert sum(p.numel() for p in ExogenousEncoder(channels, 4, 64).parameters()) == parameters


def test_equals_convolution_heads_followed_by_pooling():
    encoder, latent = _encoder(), normal((2, 4, 8, 8), "latent")
    maps = conv2d(encoder.trunk(latent), encoder.heads.weight[:, :, None, None], encoder.heads.bias)
    torch.testing.assert_close(torch.cat(encoder(latent), dim=1), maps.mean((2, 3)))


def test_log_variance_is_limited():
    encoder = _encoder()
    torch.nn.init.constant_(encoder.heads.bias, 1e3)
    mu, logvar = encoder(normal((2, 4, 8, 8), "latent"))
    assert mu.shape == logvar.shape == (2, 4)
    assert bool((logvar == LOGVAR_LIMIT).all())
    assert bool((mu > LOGVAR_LIMIT).all())


def test_sample_has_the_mean_and_variance_asked_for():
    mu, logvar = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    u = sample(mu.expand(20_000, 2), logvar.expand(20_000, 2), normal((20_000, 2), "noise"))
    torch.testing.assert_close(u.mean(0), mu[0], atol=0.08, rtol=0)
    torch.testing.assert_close(u.var(0), logvar[0].exp(), atol=0, rtol=0.05)
    torch.testing.assert_close(sample(mu, logvar, torch.zeros(1, 2)), mu)


def test_samples_of_a_batch_do_not_mix():
    encoder, latent = _encoder(), normal((3, 4, 8, 8), "latent")
    torch.testing.assert_close(encoder(latent)[0][1:2], encoder(latent[1:2])[0])


def test_width_must_suit_the_groups():
    with pytest.raises(ConfigError, match="multiple of 8"):
        ExogenousEncoder(4, 4, 12)
