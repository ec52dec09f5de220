"""The two halves of MONAI's DynUNet (nnU-Net's network), for images and for volumes.

Blocks, names and numbers are MONAI's, so weights go either way by the prefixes of their names:
``input_block``, ``downsamples`` and ``bottleneck`` are the encoder's, ``upsamples`` and ``output_block`` the
decoder's. They are not imported from there: MONAI takes every process of a run longer to import than torch.
"""

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, type[nn.InstanceNorm2d] | type[nn.InstanceNorm3d]] = {
    2: nn.InstanceNorm2d,
    3: nn.InstanceNorm3d,
}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_SLOPE = 0.01
STRIDE = 2
"""By how much every level but the first shortens each side."""

Features = tuple[Tensor, tuple[Tensor, ...]]
"""What an encoder makes: of the deepest level, and of the others, shallow to deep."""


def _named(convolution: nn.Module) -> nn.Sequential:
    """Give a convolution the name that it has in MONAI's block of it."""
    return nn.Sequential(OrderedDict(conv=convolution))


class Block(nn.Module):
    """Two 3-wide convolutions, each followed by instance normalisation and leaky ReLU.

    Args:
        dims: spatial axes, 2 or 3.
        inputs: channels that come.
        outputs: channels that go.
        stride: of the first convolution.
    """

    def __init__(self, dims: int, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        convolution, norm = CONVOLUTIONS[dims], NORMS[dims]
        self.conv1 = _named(convolution(inputs, outputs, 3, stride=stride, padding=1, bias=False))
        self.conv2 = _named(convolution(outputs, outputs, 3, padding=1, bias=False))
        self.lrelu = nn.LeakyReLU(_SLOPE, inplace=True)
        self.norm1, self.norm2 = norm(outputs, affine=True), norm(outputs, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, …) to (B, outputs, …), each side divided by the stride."""
        x = self.lrelu(self.norm1(self.conv1(x)))
        return self.lrelu(self.norm2(self.conv2(x)))


class UpBlock(nn.Module):
    """Twice the resolution, the skip connection beside it, and a :class:`Block` over both.

    Args:
        dims: spatial axes, 2 or 3.
        deep: channels from below.
        shallow: channels of the skip connection, and of what goes.
    """

    def __init__(self, dims: int, deep: int, shallow: int):
        super().__init__()
        self.transp_conv = _named(_TRANSPOSED[dims](deep, shallow, STRIDE, stride=STRIDE, bias=False))
        self.conv_block = Block(dims, 2 * shallow, shallow)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map x (B, deep, …) and skip (B, shallow, 2 × …) to (B, shallow, 2 × …)."""
        return self.conv_block(torch.cat((self.transp_conv(x), skip), dim=1))


class Encoder(nn.Module):
    """The way down.

    Args:
        dims: spatial axes, 2 or 3.
        inputs: channels that come.
        features: channels per level, full resolution first; three or more.
    """

    def __init__(self, dims: int, inputs: int, features: tuple[int, ...]):
        super().__init__()
        self.input_block = Block(dims, inputs, features[0])
        self.downsamples = nn.ModuleList(
            Block(dims, above, width, STRIDE) for above, width in pairwise(features[:-1])
        )
        self.bottleneck = Block(dims, features[-2], features[-1], STRIDE)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Features:
        """Return the features of (B, inputs, …)."""
        skips = [self.input_block(x)]
        for level in self.downsamples:
            skips.append(level(skips[-1]))
        return self.bottleneck(skips[-1]), tuple(skips)


class Decoder(nn.Module):
    """The way up, to logits for every pixel or voxel.

    Args:
        dims: spatial axes, 2 or 3.
        features: channels per level, full resolution first.
        n_classes: classes C.
    """

    def __init__(self, dims: int, features: tuple[int, ...], n_classes: int):
        super().__init__()
        self.upsamples = nn.ModuleList(
            UpBlock(dims, deep, shallow) for deep, shallow in pairwise(reversed(features))
        )
        output = CONVOLUTIONS[dims](features[0], n_classes, 1)
        self.output_block = nn.Sequential(OrderedDict(conv=_named(output)))
        self.apply(_initialise)

    def forward(self, features: Features) -> Tensor:
        """Return logits (B, C, …) at full resolution."""
        x, skips = features
        for level, skip in zip(self.upsamples, reversed(skips), strict=True):
            x = level(x, skip)
        return self.output_block(x)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
