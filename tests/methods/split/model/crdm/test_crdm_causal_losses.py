import pytest
import torch
from torch.distributions import Normal, kl_divergence

from mucald.methods.split.model.crdm.causal_losses import kl_causal, kl_exogenous, proxy_loss
from mucald.randomness import normal

ALL = torch.ones(6, 3, dtype=torch.bool)
SOME = torch.tensor([[True, True, False], [True, False, False]]).repeat(3, 1)  # the last node is missing


def _draw(name: str) -> torch.Tensor:
    return normal((6, 3), name)


def test_kl_exogenous_agrees_with_torch():
    mu, logvar = _draw("mu"), _draw("logvar")
    expected = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).mean(0).sum()
    torch.testing.assert_close(kl_exogenous(mu, logvar), expected)
    assert float(kl_exogenous(torch.zeros(2, 3), torch.zeros(2, 3))) == 0


@pytest.mark.parametrize("present", [ALL, SOME])
def test_kl_causal_agrees_with_torch(present):
    z, mean, logvar, posterior = _draw("z"), _draw("mean"), _draw("logvar"), normal((3,), "posterior")
    kl = kl_divergence(Normal(z, (0.5 * posterior).exp().expand(6, 3)), Normal(mean, (0.5 * logvar).exp()))
    expected = sum(kl[present[:, i], i].mean() for i in range(3) if present[:, i].any())
    torch.testing.assert_close(kl_causal(z, posterior, mean, logvar, present), expected)


def test_kl_causal_is_zero_where_posterior_is_prior():
    z, logvar = _draw("z"), torch.full((3,), -2.0)
    assert float(kl_causal(z, logvar, z, logvar.expand(6, 3), ALL)) == 0


def test_proxy_loss_is_a_sum_over_nodes_of_means_over_present_samples():
    z, y = _draw("z"), _draw("y")
    expected = ((z[:, 0] - y[:, 0]) ** 2).mean() + ((z[::2, 1] - y[::2, 1]) ** 2).mean()
    torch.testing.assert_close(proxy_loss(z, y, SOME), expected)


@pytest.mark.parametrize("present", [SOME, torch.zeros(6, 3, dtype=torch.bool)])
def test_missing_proxies_give_finite_losses_and_no_gradient(present):
    z, posterior = _draw("z").requires_grad_(), torch.zeros(3, requires_grad=True)
    y = torch.where(present, _draw("y"), torch.nan)
    loss = proxy_loss(z, y, present) + kl_causal(z, posterior, _draw("mean"), _draw("logvar"), present)
    loss.backward()
    assert bool(loss.isfinite())
    assert bool((z.grad[~present] == 0).all())
    assert bool((z.grad[present] != 0).all())
    assert posterior.grad[2] == 0
    if not present.any():
        assert loss.item() == 0
