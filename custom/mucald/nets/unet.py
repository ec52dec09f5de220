"""The U-Net (Ronneberger et al., MICCAI 2015), split in a U between site and server.

``cut = 0`` is the cut of MuCALD-SplitFed (ICIP 2026): one convolution at either end stays at the site, and
tensors at full resolution cross. ``cut = k`` keeps the k shallowest encoder levels, their skip connections
and their decoder levels at the site; what crosses is a latent of few channels at 1/2^k of the resolution.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from mucald.nets.blocks import SplitPlan, UpMerge, conv_norm_relu, double_conv


class Middle(nn.Module):
    """The server's deep levels, a U-Net in itself; its output, the features, has the shape of its input.

    Args:
        features: channels per level at the server, from the cut downwards.
        latent_channels: channels L of latent and features.
        norm: ``instance``, ``group`` or ``batch``.
        full_resolution: the site keeps no level (cut 0), so the first and last convolutions of the top
            level, which are the site's, are missing here.
    """

    def __init__(self, features: tuple[int, ...], latent_channels: int, norm: str, full_resolution: bool):
        super().__init__()
        top = features[0]
        entry = conv_norm_relu if full_resolution else double_conv
        self.entry = entry(latent_channels, top, norm)
        self.encoder = nn.ModuleList(double_conv(above, width, norm) for above, width in pairwise(features))
        decoder = [
            UpMerge(deep, shallow, double_conv(2 * shallow, shallow, norm))
            for deep, shallow in pairwise(reversed(features))
        ]
        if full_resolution:
            decoder[-1] = UpMerge(features[1], top, conv_norm_relu(2 * top, latent_channels, norm))
        self.decoder = nn.ModuleList(decoder)
        self.to_features = (
            nn.Identity() if full_resolution else nn.Conv2d(top, latent_channels, kernel_size=1)
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Map the latent (B x L x h x w) to features of the same shape."""
        x, skips = self.entry(latent), []
        for level in self.encoder:
            skips.append(x)
            x = level(F.max_pool2d(x, 2))
        for level in self.decoder:
            x = level(x, skips.pop())
        return self.to_features(x)


class UNet(SplitPlan):
    """The plan of a split U-Net; every cut from 0 to ``len(features)`` makes sense.

    At the last the site has all levels: the back end reads the latent, and there is nothing to learn between.
    """

    min_server_levels = 0

    def middle(self) -> nn.Module:
        """Build the server's segment."""
        if not self.server_features:
            return nn.Identity()
        return Middle(self.server_features, self.latent_channels, self.norm, self.cut == 0)
