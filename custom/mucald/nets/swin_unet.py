"""Swin-Unet (Cao et al., ECCV workshops 2022), split in a U between site and server.

The server has all Swin stages, from 1/4 of the resolution downwards, hence latent and features are at 1/4 for
every cut. The two halvings above are the site's:

- ``cut = 0``, the cut of MuCALD-SplitFed (ICIP 2026): an embedding of 4 x 4 patches, and no skip connection;
- ``cut = 1``: a convolutional level at full resolution with a local skip, then patches of 2 x 2;
- ``cut = 2``: two such levels, then patches of a single pixel: the site's part of a U-Net.

So ``features[:cut]`` are the widths of the site's levels and ``features[cut:]`` those of the Swin stages.

Departures: the features return at the latent's resolution, which the protocol asks for and which saves a
factor of 16 on the wire, so the final patch expansion is the site's; skips leave a stage behind its blocks,
as in the paper's figure 1; no stochastic depth, whose draws could not be repeated.
"""

import math
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from monai.networks.blocks import PatchEmbed
from monai.networks.nets.swin_unetr import PatchMerging, SwinTransformerBlock, WindowAttention, compute_mask
from torch import Tensor, nn

from mucald.errors import ConfigError
from mucald.nets.blocks import SplitPlan, up_norm_relu

PATCH = 4
MAX_CUT = int(math.log2(PATCH))
# As in the paper; BLOCKS alternate between plain and shifted windows.
WINDOW = 8
BLOCKS = 2
HEAD_WIDTH = 16


@lru_cache
def _shift_mask(side: int, device: torch.device) -> Tensor | None:
    """Return what keeps shifted windows from looking across the border; None where there is one window."""
    if side <= WINDOW:
        return None
    padded = math.ceil(side / WINDOW) * WINDOW
    return compute_mask((padded, padded), (WINDOW, WINDOW), (WINDOW // 2, WINDOW // 2), device)


class Attention(WindowAttention):
    """MONAI's window attention, right for maps smaller than a window too.

    There the block takes the whole map for its window, and MONAI reads the position bias of the first n
    places of a full window, which are not the n places of a smaller one.
    """

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within square windows.

        Args:
            x: windows x n x C, n up to WINDOW².
            mask: masks x n x n, added to the scores; ``windows`` is a multiple of ``masks``.
        """
        windows, n, channels = x.shape
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        scores = self._position_bias(n)[None]
        if mask is not None:
            scores = (scores + mask[:, None]).repeat(windows // len(mask), 1, 1, 1)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=scores)
        return self.proj(attended.transpose(1, 2).reshape(windows, n, channels))

    def _position_bias(self, n: int) -> Tensor:
        """Return the bias (heads x n x n) of a square window of n places."""
        side = math.isqrt(n)
        places = torch.arange(WINDOW**2, device=self.relative_position_index.device)
        places = places.unflatten(0, (WINDOW, WINDOW))[:side, :side].flatten()
        index = self.relative_position_index[places][:, places]
        return self.relative_position_bias_table[index].permute(2, 0, 1)


class Stage(nn.Module):
    """Swin blocks at one resolution.

    Args:
        width: channels, a multiple of HEAD_WIDTH.
    """

    def __init__(self, width: int):
        super().__init__()
        self.blocks = nn.ModuleList()
        for number in range(BLOCKS):
            shift, heads = (number % 2) * WINDOW // 2, width // HEAD_WIDTH
            block = SwinTransformerBlock(width, heads, (WINDOW, WINDOW), (shift, shift))
            block.attn = Attention(width, heads, (WINDOW, WINDOW), qkv_bias=True)
            self.blocks.append(block)

    def forward(self, x: Tensor) -> Tensor:
        """Map B x h x h x width to the same shape."""
        mask = _shift_mask(x.shape[1], x.device)
        for block in self.blocks:
            x = block(x, mask)
        return x


class UpStage(nn.Module):
    """A decoder level: patch expansion, which doubles the resolution, merging with the skip, Swin blocks.

    Args:
        width: channels of the skip connection; twice as many come from below.
    """

    def __init__(self, width: int):
        super().__init__()
        self.expand = nn.Linear(2 * width, 4 * width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.merge = nn.Linear(2 * width, width)
        self.stage = Stage(width)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map x (B x h x h x 2 width) and skip (B x 2h x 2h x width) to the skip's shape."""
        quarters = self.expand(x).unflatten(-1, (2, 2, -1))
        up = self.norm(quarters.transpose(2, 3).reshape(skip.shape))
        return self.stage(self.merge(torch.cat([up, skip], dim=-1)))


class Middle(nn.Module):
    """The server's Swin stages; their output, the features, has the shape of their input.

    Args:
        features: channels per stage, each twice the one above.
        latent_channels: channels L of latent and features.
    """

    def __init__(self, features: tuple[int, ...], latent_channels: int):
        super().__init__()
        top = features[0]
        self.entry = nn.Linear(latent_channels, top)
        self.stages = nn.ModuleList(Stage(width) for width in features)
        self.down = nn.ModuleList(PatchMerging(width, spatial_dims=2) for width in features[:-1])
        self.norm = nn.LayerNorm(features[-1])
        self.decoder = nn.ModuleList(UpStage(width) for width in reversed(features[:-1]))
        self.to_features = nn.Sequential(nn.LayerNorm(top), nn.Linear(top, latent_channels))

    def forward(self, latent: Tensor) -> Tensor:
        """Map the latent (B x L x h x h) to features of the same shape."""
        scales = [self.stages[0](self.entry(latent.permute(0, 2, 3, 1)))]
        for down, stage in zip(self.down, self.stages[1:], strict=True):
            scales.append(stage(down(scales[-1])))
        x = self.norm(scales.pop())
        for level in self.decoder:
            x = level(x, scales.pop())
        return self.to_features(x).permute(0, 3, 1, 2)


class SwinUNet(SplitPlan):
    """The plan of a split Swin-Unet.

    Cuts 0, 1 and 2 make sense. ``norm`` is that of the site's convolutions; Swin has layer normalisation.

    Raises:
        ConfigError: besides the usual, if the widths of the stages do not suit Swin.
    """

    min_server_levels = 2

    def __post_init__(self) -> None:
        if self.cut > MAX_CUT:
            raise ConfigError(
                f"'cut' must lie in 0..{MAX_CUT}, not {self.cut}: "
                f"the Swin stages begin at 1/{PATCH} of the resolution, and all are the server's"
            )
        super().__post_init__()
        stages = self.server_features
        if stages[0] % HEAD_WIDTH or any(deep != 2 * shallow for shallow, deep in pairwise(stages)):
            raise ConfigError(
                f"'features' beyond the first {self.cut} are Swin stages: a multiple of {HEAD_WIDTH}, "
                f"doubled from stage to stage, not {stages}"
            )

    @property
    def latent_reduction(self) -> int:
        """Pixels of the image's side per pixel of the latent's."""
        return PATCH

    @property
    def _patch(self) -> int:
        """Side of the patches, in pixels of the site's last level."""
        return PATCH >> self.cut

    def middle(self) -> Middle:
        """Build the server's segment."""
        return Middle(self.server_features, self.latent_channels)

    def _to_latent(self, width: int) -> nn.Module:
        return PatchEmbed(self._patch, width, self.latent_channels, spatial_dims=2)

    def _expand(self) -> nn.Module:
        if self._patch == 1:
            return nn.Identity()
        return up_norm_relu(self.latent_channels, self.latent_channels, self._patch, self.norm)
