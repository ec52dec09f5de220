"""Segmentation networks, split in a U: front and back end at the site, middle at the server.

A backbone is one file with a class that fits :class:`Backbone`, and one entry in :data:`BACKBONES`.
"""

from collections.abc import Callable
from typing import Any, Protocol

from torch import nn

from mucald.config.common import NetworkConfig
from mucald.config.schema import closest
from mucald.errors import ConfigError
from mucald.nets.mixed_precision import MixedPrecision
from mucald.nets.task_adaptation import AdaptedBackEnd
from mucald.nets.unet import UNet
from mucald.nets.unet3plus import UNet3Plus


class Backbone(Protocol):
    """The plan of a split network. It builds each segment on its own, since no party holds all three."""

    def front_end(self) -> nn.Module:
        """Build the site's first segment: images B x 3 x H x W -> (latent B x L x h x w, local skips)."""

    def middle(self) -> nn.Module:
        """Build the server's segment: latent B x L x h x w -> features of the same shape."""

    def back_end(self, n_classes: int) -> nn.Module:
        """Build the site's last segment: (features, local skips) -> logits B x ``n_classes`` x H x W."""

    def check_image_size(self, image_size: int) -> None:
        """Raise :class:`ConfigError` unless the network can take square images of this side (pixels)."""

    def latent_shape(self, image_size: int) -> tuple[int, int, int]:
        """Return (L, h, w) of what crosses for square images of this side (pixels)."""


def _swin_unet(**arguments: Any) -> Backbone:
    # Imported here: its blocks are MONAI's, which takes as long as torch to import.
    from mucald.nets.swin_unet import SwinUNet

    return SwinUNet(**arguments)


BACKBONES: dict[str, Callable[..., Backbone]] = {
    "unet": UNet,
    "unet3plus": UNet3Plus,
    "swin_unet": _swin_unet,
}


def build_backbone(
    name: str, *, features: tuple[int, ...], cut: int, latent_channels: int, norm: str
) -> Backbone:
    """Return the plan of the split network ``name``.

    Args:
        name: a key of :data:`BACKBONES`.
        features: channels per level, from full resolution downwards.
        cut: how many encoder levels, with their skip connections, stay at the site.
        latent_channels: channels L of what crosses between site and server.
        norm: ``instance``, ``group`` or ``batch``.

    Raises:
        ConfigError: the name is unknown or an argument is out of range.
    """
    if name not in BACKBONES:
        raise ConfigError(f"unknown backbone '{name}'{closest(name, list(BACKBONES))}")
    return BACKBONES[name](features=features, cut=cut, latent_channels=latent_channels, norm=norm)


def backbone_of(network: NetworkConfig) -> Backbone:
    """Return the plan of the split network that a job asks for.

    Raises:
        ConfigError: see :func:`build_backbone`.
    """
    plan = build_backbone(
        network.backbone,
        features=network.features,
        cut=network.cut,
        latent_channels=network.latent_channels,
        norm=network.norm,
    )
    return MixedPrecision(plan) if network.precision == "bfloat16" else plan


def back_end_of(network: NetworkConfig, n_classes: int) -> nn.Module:
    """Build a site's last segment as a job asks for it, with or without task adaptation before it.

    Raises:
        ConfigError: see :func:`build_backbone`.
    """
    back_end = backbone_of(network).back_end(n_classes)
    return AdaptedBackEnd(back_end, network.latent_channels) if network.task_adaptation else back_end


def parameter_count(module: nn.Module) -> int:
    """Return the number of trainable scalars in ``module``."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
