"""What FedBone puts between the server's features and a site's own back end."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpatialAttention(nn.Module):
    """Self-attention over pixels (Zhang et al., SAGAN, ICML 2019), scaled by √C; an identity at first.

    Memory grows with the square of the number of pixels.

    Args:
        channels: C of input and output.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, kernel_size=1) for _ in range(3))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return x + γ · attention(x), B x C x h x w like x."""
        query, key, value = (layer(x).flatten(2).mT for layer in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(query, key, value)
        return x + self.gamma * attended.mT.view_as(x)


class TaskAdaptation(nn.Module):
    """FedBone's adaptation at the site of general features to a task (Chen et al., 2023, arXiv 2306.17465).

    A residual bottleneck: 1x1 and 3x3 convolution, GELU, self-attention over pixels, 1x1 convolution.

    Args:
        channels: L of input and output; the bottleneck has half of them.
    """

    def __init__(self, channels: int):
        super().__init__()
        width = max(channels // 2, 1)
        self.bottleneck = nn.Sequential(
            nn.Conv2d(channels, width, kernel_size=1),
            nn.Conv2d(width, width, kernel_size=3, padding=1),
            nn.GELU(),
            SpatialAttention(width),
            nn.Conv2d(width, channels, kernel_size=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return adapted features, B x L x h x w like the input."""
        return cast(Tensor, features + self.bottleneck(features))


class AdaptedBackEnd(nn.Module):
    """A back end whose features are adapted first.

    Args:
        back_end: any backbone's.
        latent_channels: channels L of the features.
    """

    def __init__(self, back_end: nn.Module, latent_channels: int):
        super().__init__()
        self.adaptation = TaskAdaptation(latent_channels)
        self.back_end = back_end

    def forward(self, features: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        """Return the logits (B x C x H x W) for features (B x L x h x w) and the front end's skips."""
        return cast(Tensor, self.back_end(self.adaptation(features), skips))
