"""The network that a site puts in the server's place while it trains alone."""

import math

import torch
from torch import Tensor, nn

from mucald import optimisers, randomness
from mucald.methods.split.config import SplitConfig
from mucald.nets import backbone_of
from mucald.state.averages import gradient_norm


class StandIn:
    """A middle network of the site's own, with its optimiser; never sent, and dropped after pre-training.

    Without deep layers in between, front and back end learn to do without them: the latent holds little that
    the server's networks can use, and the back end passes over what they return. The first weights are those
    of the server's copy.

    Args:
        config: the job.
        device: where to compute.
    """

    def __init__(self, config: SplitConfig, device: torch.device):
        with randomness.seeded_initialisation(config.seed, "middle"):
            self._network: nn.Module = backbone_of(config.network).middle().to(device)
        self._clip_norm = config.optimiser.clip_norm
        self._optimiser = optimisers.AdamW(
            self._network.parameters(),
            lr=config.optimiser.segmentation,
            weight_decay=config.optimiser.weight_decay,
            fused=True,
        )

    def __call__(self, latent: Tensor) -> Tensor:
        """Return the features (B, L, h, w) of noised latents (B, L, h, w)."""
        return self._network.train()(latent)

    def scale_rate(self, factor: float) -> None:
        """Take the coming steps with ``factor`` times the job's learning rate."""
        optimisers.scale_rates(self._optimiser, factor)

    def step(self) -> float:
        """Take a step on the gradient, bounded by itself as that of the server's networks is.

        Returns:
            the gradient's L2 norm before it was bounded; where that is not finite, no step is taken.
        """
        norm = gradient_norm(self._network.parameters())
        if math.isfinite(norm):
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), self._clip_norm)
            self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return norm
