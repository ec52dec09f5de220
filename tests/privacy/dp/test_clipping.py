"""Clipped sums without per-sample gradients, against autograd sample by sample and against Opacus."""

import opacus
import pytest
import torch
from tiny_job import draw
from torch import Tensor, nn

from mucald.privacy.dp.clipping import SampleGradients


class Chain(nn.Module):
    """Two networks, one of which feeds the other, as in a conditional autoencoder."""

    def __init__(self, bias: bool = True):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8, bias=bias), nn.ReLU(), nn.Linear(8, 3))
        self.decoder = nn.Sequential(nn.Linear(5, 7), nn.LeakyReLU(0.2), nn.Linear(7, 4, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(torch.cat((self.encoder(x), x[:, :2]), dim=1))


def chain(**arguments) -> Chain:
    torch.manual_seed(0)
    return Chain(**arguments)


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x) - y).square().sum(dim=1)


def one_by_one(model: nn.Module, x: Tensor, y: Tensor, clip: float) -> tuple[list[Tensor], Tensor]:
    sums, norms = [torch.zeros_like(p) for p in model.parameters()], []
    for row in range(len(x)):
        loss = losses(model, x[row : row + 1], y[row : row + 1]).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        norms.append(norm)
        for total, gradient in zip(sums, gradients, strict=True):
            total += gradient * min(1.0, clip / float(norm))
    return sums, torch.stack(norms)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("clip", [1e-3, 4.0, float("inf")])
def test_sums_and_norms_are_those_of_autograd_sample_by_sample(bias, clip):
    model, x, y = chain(bias=bias), draw(9, 6), draw(9, 4, seed=1)
    found = SampleGradients(model).clipped_sum(lambda: losses(model, x, y), clip)
    sums, norms = one_by_one(model, x, y, clip)
    torch.testing.assert_close(found.norms, norms, rtol=1e-5, atol=1e-6)
    for own, expected in zip(found.gradients, sums, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)


def test_sums_are_those_of_opacus():
    model, x, y, clip = chain(), draw(32, 6), draw(32, 4, seed=1), 2.0
    own = SampleGradients(model).clipped_sum(lambda: losses(model, x, y), clip)
    wrapped = opacus.GradSampleModule(chain(), loss_reduction="sum")
    optimiser = opacus.optimizers.DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=0.0),
        noise_multiplier=0.0,
        max_grad_norm=clip,
        expected_batch_size=32,
        loss_reduction="sum",
    )
    losses(wrapped, x, y).sum().backward()
    optimiser.pre_step()
    assert 0 < int((own.norms > clip).sum()) < 32, "some are clipped and some are not"
    for gradient, parameter in zip(own.gradients, wrapped.parameters(), strict=True):
        # Opacus adds 1e-6 to the norm by which it divides.
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-5, atol=1e-5)


def test_a_sample_without_gradient_adds_nothing():
    model, x = chain(), draw(3, 6)
    found = SampleGradients(model).clipped_sum(lambda: 0 * losses(model, x, draw(3, 4)), 1.0)
    assert all(float(gradient.abs().max()) == 0 for gradient in found.gradients)


def test_what_is_not_linear_or_not_called_once_is_refused():
    with pytest.raises(TypeError, match=r"'1\.weight' is no parameter of a linear layer"):
        SampleGradients(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))
    model, x = chain(), draw(4, 6)
    with pytest.raises(TypeError, match="called once"):
        SampleGradients(model).clipped_sum(lambda: model.encoder(x).sum(dim=1), 1.0)
    layer = nn.Linear(3, 1)
    with pytest.raises(TypeError, match="samples x features"):
        SampleGradients(layer).clipped_sum(lambda: layer(draw(4, 2, 3)).sum(dim=(1, 2)), 1.0)


def test_memory_does_not_grow_with_samples_times_parameters():
    """The largest tensor that a pass makes is a layer's weights or a layer's outputs, never their product."""
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    x, largest = draw(512, 64), 0

    class Watching(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for one in result if isinstance(result, tuple | list) else (result,):
                if isinstance(one, Tensor):
                    largest = max(largest, one.numel())
            return result

    with Watching():
        SampleGradients(model).clipped_sum(lambda: losses(model, x, x), 1.0)
    assert largest == 512 * 256
