import torch

from mucald.methods.split.model.crdm.prior import LOGVAR_LIMIT, CausalPosterior, CausalPrior
from mucald.randomness import normal, seeded_initialisation


def _prior() -> CausalPrior:
    with seeded_initialisation("prior"):
        return CausalPrior(4)


def test_parameter_count():
    assert sum(p.numel() for p in CausalPrior(4).parameters()) == 488
    assert CausalPosterior(4).logvar.tolist() == [-2.0] * 4


def test_missing_proxies_count_as_the_mean():
    prior, proxies = _prior(), normal((3, 4), "proxies")
    present = torch.tensor([[True, False, True, True]]).expand(3, 4)
    zeroed = proxies.clone()
    zeroed[:, 1] = 0
    proxies[:, 1] = torch.nan
    expected = prior(zeroed, torch.ones(3, 4, dtype=torch.bool))
    torch.testing.assert_close(prior(proxies, present), expected)


def test_log_variance_is_limited():
    prior = _prior()
    torch.nn.init.constant_(prior.heads.bias, -1e3)
    mean, logvar = prior(normal((3, 4), "proxies"), torch.ones(3, 4, dtype=torch.bool))
    assert bool((logvar == -LOGVAR_LIMIT).all())
    assert bool((mean < -LOGVAR_LIMIT).all())
