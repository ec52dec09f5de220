"""What the backbones share: convolutions, the site's segments, the plan of a split."""

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mucald.config.schema import closest
from mucald.errors import ConfigError

NORMS = ("instance", "group", "batch")
MAX_GROUPS = 8
IMAGE_CHANNELS = 3
# Below 2 x 2 pixels a normalisation over the pixels of one image has nothing to average.
MIN_DEEPEST_SIDE = 2


def _norm(name: str, channels: int) -> nn.Module:
    if name == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    if name == "batch":
        return nn.BatchNorm2d(channels)
    # The number of groups must divide the number of channels.
    return nn.GroupNorm(math.gcd(MAX_GROUPS, channels), channels)


def _norm_relu(conv: nn.Conv2d | nn.ConvTranspose2d, norm: str) -> nn.Module:
    """Put normalisation and ReLU behind a convolution, in the names of MONAI's block of that kind.

    MONAI itself takes a process as long to import as torch does, and every process of a run builds networks.
    """
    adn = OrderedDict(N=_norm(norm, conv.out_channels), A=nn.ReLU(inplace=True))
    return nn.Sequential(OrderedDict(conv=conv, adn=nn.Sequential(adn)))


def conv_norm_relu(in_channels: int, out_channels: int, norm: str) -> nn.Module:
    """Build a 3x3 convolution, normalisation and ReLU; the size of the image stays."""
    # The normalisation subtracts any bias of the convolution and has one of its own.
    return _norm_relu(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), norm)


def double_conv(in_channels: int, out_channels: int, norm: str) -> nn.Module:
    """Build the U-Net's pair of 3x3 convolutions (Ronneberger et al., MICCAI 2015), each normalised."""
    return nn.Sequential(
        conv_norm_relu(in_channels, out_channels, norm), conv_norm_relu(out_channels, out_channels, norm)
    )


def up_norm_relu(in_channels: int, out_channels: int, factor: int, norm: str) -> nn.Module:
    """Build an expansion of every pixel to ``factor`` x ``factor`` of them, normalisation and ReLU."""
    return _norm_relu(nn.ConvTranspose2d(in_channels, out_channels, factor, stride=factor, bias=False), norm)


class UpMerge(nn.Module):
    """A decoder level: double the resolution, put the skip connection beside it, and merge the two.

    Args:
        deep: channels that come from below.
        shallow: channels of the skip connection.
        merge: takes 2 x ``shallow`` channels.
    """

    def __init__(self, deep: int, shallow: int, merge: nn.Module):
        super().__init__()
        self.up = nn.Sequential(OrderedDict(deconv=nn.ConvTranspose2d(deep, shallow, 2, stride=2)))
        self.merge = merge

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map x (B x deep x h x w) and skip (B x shallow x 2h x 2w) to ``merge``'s output at 2h x 2w."""
        return self.merge(torch.cat([skip, self.up(x)], dim=1))


class FrontEnd(nn.Module):
    """The site's encoder levels.

    Args:
        local_features: channels of the levels that stay at the site; none for cut 0.
        norm: ``instance``, ``group`` or ``batch``.
        to_latent: builds what makes the latent, for the channels that the last level leaves.
    """

    def __init__(self, local_features: tuple[int, ...], norm: str, to_latent: Callable[[int], nn.Module]):
        super().__init__()
        widths = (IMAGE_CHANNELS, *local_features)
        self.levels = nn.ModuleList(double_conv(above, width, norm) for above, width in pairwise(widths))
        self.to_latent = to_latent(widths[-1])

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the latent (B x L x h x w) and the local skips, shallow to deep.

        Args:
            image: B x 3 x H x W.
        """
        x, skips = image, []
        for level in self.levels:
            skips.append(level(x))
            x = F.max_pool2d(skips[-1], 2)
        return self.to_latent(x), tuple(skips)


class BackEnd(nn.Module):
    """The site's decoder levels and its classifier.

    Args:
        local_features: channels of the levels that stay at the site; none for cut 0.
        latent_channels: channels L of the features.
        n_classes: classes C of the site's task, background included.
        norm: ``instance``, ``group`` or ``batch``.
        expand: brings the features from the server's resolution to that below the site's levels.
    """

    def __init__(
        self,
        local_features: tuple[int, ...],
        latent_channels: int,
        n_classes: int,
        norm: str,
        expand: nn.Module,
    ):
        super().__init__()
        widths = (latent_channels, *reversed(local_features))
        self.expand = expand
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
            features: B x L x h x w.
            skips: what the front end returned, shallow to deep.
        """
        x = self.expand(features)
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x = level(x, skip)
        return self.classify(self.refine(x))


@dataclass(frozen=True)
class SplitPlan(ABC):
    """The plan of a split network whose site keeps convolutional levels (see :class:`mucald.nets.Backbone`).

    Args:
        features: channels per level, from full resolution downwards: the first ``cut`` of them are the
            site's, the others the server's.
        cut: how many levels stay at the site.
        latent_channels: channels L of latent and features.
        norm: ``instance``, ``group`` or ``batch``.

    Raises:
        ConfigError: an argument is out of range.
    """

    features: tuple[int, ...]
    cut: int
    latent_channels: int
    norm: str

    min_server_levels: ClassVar[int] = 1

    def __post_init__(self) -> None:
        levels, needed = len(self.features), self.min_server_levels
        if levels < 2 or min(self.features) < 1:
            raise ConfigError(f"'features' must name two or more positive widths, not {self.features}")
        if not 0 <= self.cut <= levels - needed:
            raise ConfigError(
                f"'cut' must lie in 0..{levels - needed}, not {self.cut}: "
                f"the server needs {needed} or more of the {levels} levels of 'features'"
            )
        if self.latent_channels < 1:
            raise ConfigError(f"'latent_channels' must be positive, not {self.latent_channels}")
        if self.norm not in NORMS:
            raise ConfigError(f"unknown norm '{self.norm}'{closest(self.norm, list(NORMS))}")

    @property
    def local_features(self) -> tuple[int, ...]:
        """Channels of the site's levels."""
        return self.features[: self.cut]

    @property
    def server_features(self) -> tuple[int, ...]:
        """Channels of the server's levels."""
        return self.features[self.cut :]

    @property
    def latent_reduction(self) -> int:
        """Pixels of the image's side per pixel of the latent's."""
        return 2**self.cut

    def front_end(self) -> FrontEnd:
        """Build the site's first segment."""
        return FrontEnd(self.local_features, self.norm, self._to_latent)

    @abstractmethod
    def middle(self) -> nn.Module:
        """Build the server's segment."""

    def back_end(self, n_classes: int) -> BackEnd:
        """Build the site's last segment for a task of ``n_classes`` classes, background included."""
        return BackEnd(self.local_features, self.latent_channels, n_classes, self.norm, self._expand())

    def _to_latent(self, width: int) -> nn.Module:
        if self.cut == 0:
            return conv_norm_relu(width, self.latent_channels, self.norm)
        # Linear in the last level: the release standardises it.
        return nn.Conv2d(width, self.latent_channels, kernel_size=1)

    def _expand(self) -> nn.Module:
        return nn.Identity()

    def check_image_size(self, image_size: int) -> None:
        """Check that square images of this side (pixels) can be halved down to the deepest level.

        Raises:
            ConfigError: they cannot, or the deepest level would be a single pixel.
        """
        step = self.latent_reduction * 2 ** max(len(self.server_features) - 1, 0)
        if image_size % step or image_size < MIN_DEEPEST_SIDE * step:
            raise ConfigError(
                f"'image_size' must be a multiple of {step} and at least {MIN_DEEPEST_SIDE * step} "
                f"for {len(self.features)} levels of 'features', not {image_size}"
            )

    def latent_shape(self, image_size: int) -> tuple[int, int, int]:
        """Return (L, h, w) of latent and features for square images of this side (pixels)."""
        self.check_image_size(image_size)
        side = image_size // self.latent_reduction
        return self.latent_channels, side, side
