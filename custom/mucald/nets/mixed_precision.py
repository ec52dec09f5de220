"""A split network that multiplies in bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from mucald.nets import Backbone


def in_bfloat16(segment: nn.Module) -> nn.Module:
    """Let a segment multiply in bfloat16 from here on; it takes and returns float32 as before."""
    in_float32 = segment.forward

    def forward(first: Tensor, *others: Any) -> Any:
        with torch.autocast(first.device.type, torch.bfloat16):
            return _float32(in_float32(first, *others))

    # Not a module around it: that would rename the weights, which jobs and checkpoints name.
    segment.forward = forward
    return segment


def _float32(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float()
    return type(output)(_float32(part) for part in output)


class MixedPrecision:
    """The plan of a split network whose convolutions and matrix products run in bfloat16 (autocast).

    Weights, gradients, and what goes into and comes out of a segment are float32, so that noise, codec,
    losses and optimiser are those of a float32 job. bfloat16 has float32's range, so no loss is scaled.

    Args:
        plan: the split network.
    """

    def __init__(self, plan: Backbone):
        self._plan = plan

    def front_end(self) -> nn.Module:
        """Build the site's first segment."""
        return in_bfloat16(self._plan.front_end())

    def middle(self) -> nn.Module:
        """Build the server's segment."""
        return in_bfloat16(self._plan.middle())

    def back_end(self, n_classes: int) -> nn.Module:
        """Build the site's last segment."""
        return in_bfloat16(self._plan.back_end(n_classes))

    def check_image_size(self, image_size: int) -> None:
        """Raise :class:`ConfigError` unless the network can take square images of this side (pixels)."""
        self._plan.check_image_size(image_size)

    def latent_shape(self, image_size: int) -> tuple[int, int, int]:
        """Return (L, h, w) of what crosses for square images of this side (pixels)."""
        return self._plan.latent_shape(image_size)
