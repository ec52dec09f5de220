"""The attackers' networks: one that turns what crossed into a picture, and probes that classify it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mucald import optimisers

SMALLEST_SIDE = 4
LEVELS = 3
DIRECTIONS = 8


class PictureDecoder(nn.Module):
    """A small residual U-Net (MONAI's) at the latent's resolution, then one doubling after the other.

    Args:
        shape: (L, h, w) of what comes in.
        size: side S of the picture in pixels, h times a power of two.
        channels: channels C of the picture.
        width: features at the latent's resolution.
    """

    def __init__(self, shape: Sequence[int], size: int, channels: int, width: int):
        super().__init__()
        # Imported here: MONAI takes seconds to import.
        from monai.networks.nets.unet import UNet

        depth = max(1, min(LEVELS, int(math.log2(shape[1] / SMALLEST_SIDE))))
        self.body = UNet(
            spatial_dims=2,
            in_channels=shape[0],
            out_channels=width,
            channels=[width * 2**level for level in range(depth + 1)],
            strides=[2] * depth,
            num_res_units=1,
            norm="BATCH",
            act="RELU",
        )
        stages: list[nn.Module] = []
        for _ in range(round(math.log2(size / shape[1]))):
            narrower = max(width // 2, 8)
            stages += [
                nn.ReLU(),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                nn.Conv2d(width, narrower, 3, padding=1),
            ]
            width = narrower
        self.head = nn.Sequential(*stages, nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, h, w) to logits (N, C, S, S)."""
        return self.head(self.body(x))


def _pixel_layers(channels: int, width: int, side: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Upsample(size=(side, side), mode="bilinear", align_corners=False),
    ]


class PixelProbe(nn.Module):
    """Labels pixels by their neighbourhood in a map and in its magnitudes.

    A few leaked images hold many pixels, but not enough to learn what whole images look like: the network
    sees few cells of the map at once. Its arguments are the map's channels L, the mask's side S in pixels,
    classes C, and features.
    """

    def __init__(self, channels: int, size: int, n_classes: int, width: int):
        super().__init__()
        layers = _pixel_layers(2 * channels, width, size)
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, n_classes, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, h, w) to logits (N, C, S, S)."""
        return self.layers(torch.cat([x, x.abs()], dim=1))


class PriorProbe(nn.Module):
    """Labels pixels by a map full of noise: it begins with what is known without the map.

    What a map says of a pixel lies along few directions of its channels, the same everywhere. So the channels
    are projected on these, and looked at with and without their neighbourhood.

    Args:
        channels: channels L of the map.
        prior: log-probabilities (C, S, S) of the classes without the map.
        width: features.
    """

    def __init__(self, channels: int, prior: Tensor, width: int):
        super().__init__()
        self.register_buffer("prior", prior)
        self.prior: Tensor
        self.project = nn.Conv2d(channels, DIRECTIONS, 1)
        self.smooth = nn.AvgPool2d(5, 1, 2, count_include_pad=False)
        last = nn.Conv2d(width, len(prior), 3, padding=1)
        for tensor in last.parameters():
            nn.init.zeros_(tensor)
        self.layers = nn.Sequential(*_pixel_layers(4 * DIRECTIONS, width, prior.shape[-1]), last)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, h, w) to logits (N, C, S, S)."""
        y = self.project(x)
        smooth = self.smooth(y)
        return self.prior + self.layers(torch.cat([y, y.abs(), smooth, smooth.abs()], dim=1))


class PooledProbe(nn.Sequential):
    """Classifies maps by mean and standard deviation of each of their channels L.

    Linear, or with a hidden layer of so many units if there are any.
    """

    def __init__(self, channels: int, n_classes: int, hidden: int):
        first: list[nn.Module] = [nn.BatchNorm1d(2 * channels)]
        if hidden:
            first += [nn.Linear(2 * channels, hidden), nn.ReLU()]
        super().__init__(*first, nn.Linear(hidden or 2 * channels, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, h, w) to logits (N, n_classes)."""
        return super().forward(torch.cat([x.mean(dim=(2, 3)), x.std(dim=(2, 3))], dim=1))


class Critic:
    """Tells real maps (N, L, h, w) from made ones, and learns it beside what makes them."""

    def __init__(self, channels: int, width: int, rate: float):
        self._network = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, stride=2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            nn.LeakyReLU(0.2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, 1),
        )
        self._optimiser = optimisers.Adam(self._network.parameters(), lr=rate, betas=(0.5, 0.99))

    def learn(self, real: Tensor, made: Tensor) -> None:
        """Make one step."""
        as_real, as_made = self._network(real), self._network(made.detach())
        loss = binary_cross_entropy_with_logits(as_real, torch.ones_like(as_real))
        loss = loss + binary_cross_entropy_with_logits(as_made, torch.zeros_like(as_made))
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()

    def doubt(self, maps: Tensor) -> Tensor:
        """Return the loss of maps that are to be taken for real ones."""
        told = self._network(maps)
        return binary_cross_entropy_with_logits(told, torch.ones_like(told))
