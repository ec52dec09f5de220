"""Front end, middle network and back end as one network that one party holds."""

from torch import Tensor, nn

from mucald.config.common import NetworkConfig
from mucald.nets import back_end_of, backbone_of
from mucald.nets.latent import bounded

PARTS = ("front_end", "middle", "back_end")


class WholeNetwork(nn.Module):
    """The function that a split network computes without noise: the latent is bounded in between.

    Args:
        front_end, middle, back_end: the parts.
        clip: bound of the standardised latent.
    """

    def __init__(self, front_end: nn.Module, middle: nn.Module, back_end: nn.Module, clip: float):
        super().__init__()
        self.front_end, self.middle, self.back_end, self._clip = front_end, middle, back_end, clip

    def parts(self) -> dict[str, nn.Module]:
        """Return the parts by name."""
        return {name: self.get_submodule(name) for name in PARTS}

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, C, S, S) for images (B, 3, S, S) in [0, 1]."""
        latent, skips = self.front_end(images)
        return self.back_end(self.middle(bounded(latent, self._clip)), skips)


def trained_network(
    network: NetworkConfig, n_classes: int, clip: float, weights: dict[str, Tensor]
) -> WholeNetwork:
    """Return a network with ``weights``, in evaluation mode."""
    backbone = backbone_of(network)
    whole = WholeNetwork(backbone.front_end(), backbone.middle(), back_end_of(network, n_classes), clip)
    whole.load_state_dict(weights)
    return whole.eval().requires_grad_(False)
