"""Building blocks of the backbones, composed of MONAI's."""

import math

import torch
from monai.networks.blocks import Convolution, UpSample
from torch import Tensor, nn

NORMS = ("instance", "group", "batch")
MAX_GROUPS = 8


def _norm(name: str, channels: int) -> tuple[str, dict[str, int | bool]]:
    arguments: dict[str, dict[str, int | bool]] = {
        "instance": {"affine": True},
        # The number of groups must divide the number of channels.
        "group": {"num_groups": math.gcd(MAX_GROUPS, channels)},
        "batch": {},
    }
    return name, arguments[name]


def conv_norm_relu(in_channels: int, out_channels: int, norm: str) -> nn.Module:
    """Build a 3x3 convolution, normalisation and ReLU; the size of the image stays."""
    # The normalisation subtracts any bias of the convolution and has one of its own.
    return Convolution(
        spatial_dims=2,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=3,
        bias=False,
        norm=_norm(norm, out_channels),
        act=("RELU", {"inplace": True}),
    )


def double_conv(in_channels: int, out_channels: int, norm: str) -> nn.Module:
    """Build the U-Net's pair of 3x3 convolutions (Ronneberger et al., MICCAI 2015), each normalised."""
    return nn.Sequential(
        conv_norm_relu(in_channels, out_channels, norm), conv_norm_relu(out_channels, out_channels, norm)
    )


class UpMerge(nn.Module):
    """A decoder level: double the resolution, put the skip connection beside it, and merge the two.

    Args:
        deep: channels that come from below.
        shallow: channels of the skip connection.
        merge: takes 2 x ``shallow`` channels.
    """

    def __init__(self, deep: int, shallow: int, merge: nn.Module):
        super().__init__()
        self.up = UpSample(
            spatial_dims=2, in_channels=deep, out_channels=shallow, scale_factor=2, mode="deconv"
        )
        self.merge = merge

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map x (B x deep x h x w) and skip (B x shallow x 2h x 2w) to ``merge``'s output at 2h x 2w."""
        return self.merge(torch.cat([skip, self.up(x)], dim=1))
