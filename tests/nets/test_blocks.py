"""The blocks are MONAI's in names, first weights and outputs, though no process imports MONAI for them."""

from typing import Any

import pytest
import torch
from monai.networks.blocks import Convolution, UpSample
from torch import nn

from mucald.nets.blocks import NORMS, UpMerge, conv_norm_relu, up_norm_relu

MONAI_NORMS: dict[str, Any] = {
    "instance": ("instance", {"affine": True}),
    "group": ("group", {"num_groups": 4}),
    "batch": ("batch", {}),
}
COMMON: dict[str, Any] = {
    "spatial_dims": 2,
    "in_channels": 6,
    "out_channels": 12,
    "bias": False,
    "act": ("RELU", {"inplace": True}),
}


def built(make: Any) -> nn.Module:
    torch.manual_seed(3)
    return make()


def assert_equal(ours: nn.Module, monais: nn.Module) -> None:
    found, expected = ours.state_dict(), monais.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    images = torch.randn(2, 6, 8, 8)
    assert torch.equal(ours(images), monais(images))


@pytest.mark.parametrize("norm", NORMS)
def test_convolutions(norm: str) -> None:
    monais = built(lambda: Convolution(**COMMON, kernel_size=3, norm=MONAI_NORMS[norm]))
    assert_equal(built(lambda: conv_norm_relu(6, 12, norm)), monais)


@pytest.mark.parametrize("factor", [2, 4])
def test_expansions(factor: int) -> None:
    more: dict[str, Any] = {"kernel_size": factor, "strides": factor, "padding": 0, "output_padding": 0}
    norm = MONAI_NORMS["instance"]
    monais = built(lambda: Convolution(**COMMON, **more, is_transposed=True, norm=norm))
    assert_equal(built(lambda: up_norm_relu(6, 12, factor, "instance")), monais)


def test_doublings() -> None:
    monais = built(
        lambda: UpSample(spatial_dims=2, in_channels=6, out_channels=12, scale_factor=2, mode="deconv")
    )
    assert_equal(built(lambda: UpMerge(6, 12, nn.Identity()).up), monais)
