"""UNet 3+ (Huang et al., ICASSP 2020), split in a U between site and server.

Every decoder level of the server sees all of the server's scales: encoder levels at its resolution or finer,
pooled, and deeper ones, interpolated. ``cut = k`` keeps the k shallowest encoder levels at the site with
plain local skips and decoder levels, as in the U-Net: were their maps to take part in the server's
aggregation, they would have to cross. ``cut = 1`` leaves the server the levels that MuCALD-SplitFed (ICIP
2026) leaves it, where the scale of full resolution is dropped altogether; ``cut = 0`` is one convolution at
either end, and all scales are the server's.

Departures: no deep supervision, since the server has no labels, and the back end returns logits, not
probabilities.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mucald.nets.blocks import SplitPlan, conv_norm_relu, double_conv


def resize(x: Tensor, side: int) -> Tensor:
    """Bring square maps (B x C x s x s) to ``side`` pixels: max pooling downwards, bilinear upwards."""
    if x.shape[-1] > side:
        return F.max_pool2d(x, x.shape[-1] // side)
    if x.shape[-1] < side:
        return F.interpolate(x, size=(side, side), mode="bilinear")
    return x


class FullScale(nn.Module):
    """A decoder level that aggregates every scale (Huang et al., eq. 1).

    Args:
        widths: channels that come from each scale, fine to coarse.
        width: channels that each scale is reduced to.
        norm: ``instance``, ``group`` or ``batch``.
    """

    def __init__(self, widths: Sequence[int], width: int, norm: str):
        super().__init__()
        self.reduce = nn.ModuleList(conv_norm_relu(channels, width, norm) for channels in widths)
        self.merge = conv_norm_relu(len(widths) * width, len(widths) * width, norm)

    def forward(self, scales: Sequence[Tensor], side: int) -> Tensor:
        """Return B x (scales x width) x side x side for the maps of all scales, fine to coarse."""
        reduced = [reduce(resize(scale, side)) for reduce, scale in zip(self.reduce, scales, strict=True)]
        return self.merge(torch.cat(reduced, dim=1))


class Middle(nn.Module):
    """The server's levels, a UNet 3+ in itself; its output, the features, has the shape of its input.

    Args:
        features: channels per level at the server, from the cut downwards; two levels or more.
        width: channels that a decoder level takes from each scale.
        latent_channels: channels L of latent and features.
        norm: ``instance``, ``group`` or ``batch``.
        full_resolution: the site keeps no level (cut 0) but the first convolution of the top one.
    """

    def __init__(
        self, features: tuple[int, ...], width: int, latent_channels: int, norm: str, full_resolution: bool
    ):
        super().__init__()
        entry = conv_norm_relu if full_resolution else double_conv
        self.entry = entry(latent_channels, features[0], norm)
        self.encoder = nn.ModuleList(double_conv(above, deeper, norm) for above, deeper in pairwise(features))
        # What each scale holds when the decoder, going up, reaches a level: encoder maps there and above.
        widths, self.decoder = list(features), nn.ModuleList()
        for level in reversed(range(len(features) - 1)):
            self.decoder.append(FullScale(widths, width, norm))
            widths[level] = len(features) * width
        self.to_features = nn.Conv2d(widths[0], latent_channels, kernel_size=1)

    def forward(self, latent: Tensor) -> Tensor:
        """Map the latent (B x L x h x h) to features of the same shape."""
        scales = [self.entry(latent)]
        for level in self.encoder:
            scales.append(level(F.max_pool2d(scales[-1], 2)))
        for index, aggregate in zip(reversed(range(len(self.decoder))), self.decoder, strict=True):
            scales[index] = aggregate(scales, scales[index].shape[-1])
        return self.to_features(scales[0])


class UNet3Plus(SplitPlan):
    """The plan of a split UNet 3+.

    Cuts from 0 to ``len(features) - 2`` make sense: with a single level the server has no scales to
    aggregate. A decoder level takes ``features[0]`` channels from each scale, as in the paper.
    """

    min_server_levels = 2

    def middle(self) -> Middle:
        """Build the server's segment."""
        return Middle(self.server_features, self.features[0], self.latent_channels, self.norm, self.cut == 0)
