"""The U-Net (Ronneberger et al., MICCAI 2015), split in a U between site and server.

``cut = 0`` is the cut of MuCALD-SplitFed (ICIP 2026): one convolution at either end stays at the site, and
tensors at full resolution cross. ``cut = k`` keeps the k shallowest encoder levels, their skip connections
and their decoder levels at the site; what crosses is a latent of few channels at 1/2^k of the resolution.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from mucald.errors import ConfigError
from mucald.nets.blocks import NORMS, UpMerge, conv_norm_relu, double_conv
from mucald.schema import closest

IMAGE_CHANNELS = 3
# Below 2 x 2 pixels a normalisation over the pixels of one image has nothing to average.
MIN_DEEPEST_SIDE = 2


class FrontEnd(nn.Module):
    """The site's encoder levels.

    Args:
        local_features: channels of the levels that stay at the site; none for cut 0.
        latent_channels: channels L of the latent.
        norm: ``instance``, ``group`` or ``batch``.
    """

    def __init__(self, local_features: tuple[int, ...], latent_channels: int, norm: str):
        super().__init__()
        widths = (IMAGE_CHANNELS, *local_features)
        self.levels = nn.ModuleList(double_conv(above, width, norm) for above, width in pairwise(widths))
        # At cut k > 0 the latent is linear in the last level: the release standardises it.
        self.to_latent = (
            nn.Conv2d(widths[-1], latent_channels, kernel_size=1)
            if local_features
            else conv_norm_relu(IMAGE_CHANNELS, latent_channels, norm)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the latent (B x L x H/2^k x W/2^k) and the local skips, shallow to deep.

        Args:
            image: B x 3 x H x W.
        """
        x, skips = image, []
        for level in self.levels:
            skips.append(level(x))
            x = F.max_pool2d(skips[-1], 2)
        return self.to_latent(x), tuple(skips)


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


class BackEnd(nn.Module):
    """The site's decoder levels and its classifier.

    Args:
        local_features: channels of the levels that stay at the site; none for cut 0.
        latent_channels: channels L of the features.
        n_classes: classes C of the site's task, background included.
        norm: ``instance``, ``group`` or ``batch``.
    """

    def __init__(self, local_features: tuple[int, ...], latent_channels: int, n_classes: int, norm: str):
        super().__init__()
        widths = (latent_channels, *reversed(local_features))
        self.levels = nn.ModuleList(
            UpMerge(deep, shallow, double_conv(2 * shallow, shallow, norm))
            for deep, shallow in pairwise(widths)
        )
        self.refine = (
            nn.Identity() if local_features else conv_norm_relu(latent_channels, latent_channels, norm)
        )
        self.classify = nn.Conv2d(widths[-1], n_classes, kernel_size=1)

    def forward(self, features: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        """Return the logits (B x C x H x W).

        Args:
            features: B x L x H/2^k x W/2^k.
            skips: what the front end returned, shallow to deep.
        """
        x = features
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x = level(x, skip)
        return self.classify(self.refine(x))


@dataclass(frozen=True)
class UNet:
    """The plan of a split U-Net (see :class:`mucald.nets.Backbone`).

    Args:
        features: channels per level, from full resolution downwards.
        cut: how many levels stay at the site, 0 to ``len(features) - 1``.
        latent_channels: channels L of latent and features.
        norm: ``instance``, ``group`` or ``batch``.

    Raises:
        ConfigError: an argument is out of range.
    """

    features: tuple[int, ...]
    cut: int
    latent_channels: int
    norm: str

    def __post_init__(self) -> None:
        if len(self.features) < 2 or min(self.features) < 1:
            raise ConfigError(f"'features' must name two or more positive widths, not {self.features}")
        if not 0 <= self.cut < len(self.features):
            deepest = len(self.features) - 1
            raise ConfigError(f"'cut' must lie in 0..{deepest}, the levels of 'features', not {self.cut}")
        if self.latent_channels < 1:
            raise ConfigError(f"'latent_channels' must be positive, not {self.latent_channels}")
        if self.norm not in NORMS:
            raise ConfigError(f"unknown norm '{self.norm}'{closest(self.norm, list(NORMS))}")

    @property
    def _local_features(self) -> tuple[int, ...]:
        return self.features[: self.cut]

    def front_end(self) -> FrontEnd:
        """Build the site's first segment."""
        return FrontEnd(self._local_features, self.latent_channels, self.norm)

    def middle(self) -> Middle:
        """Build the server's segment."""
        return Middle(self.features[self.cut :], self.latent_channels, self.norm, self.cut == 0)

    def back_end(self, n_classes: int) -> BackEnd:
        """Build the site's last segment for a task of ``n_classes`` classes, background included."""
        return BackEnd(self._local_features, self.latent_channels, n_classes, self.norm)

    def check_image_size(self, image_size: int) -> None:
        """Check that square images of this side (pixels) can be halved down to the deepest level.

        Raises:
            ConfigError: they cannot, or the deepest level would be a single pixel.
        """
        step = 2 ** (len(self.features) - 1)
        if image_size % step or image_size < MIN_DEEPEST_SIDE * step:
            raise ConfigError(
                f"'image_size' must be a multiple of {step} and at least {MIN_DEEPEST_SIDE * step} "
                f"for {len(self.features)} levels of 'features', not {image_size}"
            )

    def latent_shape(self, image_size: int) -> tuple[int, int, int]:
        """Return (L, h, w) of latent and features for square images of this side (pixels)."""
        self.check_image_size(image_size)
        side = image_size // 2**self.cut
        return self.latent_channels, side, side
