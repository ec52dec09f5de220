"""The network that a site puts in the server's place while it trains alone."""

import torch
from torch import Tensor, nn

from mucald import randomness
from mucald.config import JobConfig
from mucald.nets import backbone_of
from mucald.split.statistics import gradient_norm


class StandIn:
    """A middle network of the site's own, with its optimiser; it never leaves, and is dropped after pre-training.

    Without deep layers in between, front and back end would learn to do without them: the latent would hold
    little that the server's networks can use, and the back end would pass over what they return. The first
    weights are those of the server's copy.

    Args:
        config: the job.
        device: where to compute.
    """

    def __init__(self, config: JobConfig, device: torch.device):
        with randomness.seeded_initialisation(config.seed, "middle"):
            self._network: nn.Module = backbone_of(config.network).middle().to(device)
        self._clip_norm = config.optimiser.clip_norm
        self._optimiser = torch.optim.AdamW(
            self._network.parameters(),
            lr=config.optimiser.segmentation,
            weight_decay=config.optimiser.weight_decay,
            fused=True,
        )

    def __call__(self, latent: Tensor) -> Tensor:
        """Return the features (B, L, h, w) of noised latents (B, L, h, w)."""
        return self._network.train()(latent)

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        self._optimiser.zero_grad(set_to_none=True)

    def gradient_norm(self) -> float:
        """Return the L2 norm of the gradient."""
        return gradient_norm(self._network.parameters())

    def step(self) -> None:
        """Clip the gradient, with a bound of its own as the server's networks have, and take a step."""
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), self._clip_norm)
        self._optimiser.step()
