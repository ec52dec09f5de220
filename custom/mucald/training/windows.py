"""What a network says of volumes that are larger than the patches that it was trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mucald.nets.adapted import AdaptedNetwork

OVERLAP = 0.5
"""Of neighbouring windows, in their sides."""


@torch.no_grad()
def predicted(network: nn.Module, inputs: Tensor, patch: Sequence[int] | None) -> Tensor:
    """Return logits (B, C, …), or (B, C) of a network that classifies, for samples (B, channels, …).

    Volumes are passed through in windows of the size of a patch, whose logits are blended with a Gaussian
    weight: MONAI's sliding window. A network that classifies pools the blended map.

    Args:
        network: in evaluation mode.
        inputs: on the network's device.
        patch: size of a patch; None of images, which are passed through whole.
    """
    if patch is None or tuple(inputs.shape[2:]) == tuple(patch):
        return network(inputs)
    assert isinstance(network, AdaptedNetwork)
    # Imported here: it takes a process longer than torch, and many have volumes of one patch.
    from monai.inferers.utils import sliding_window_inference

    logits = sliding_window_inference(
        inputs, tuple(patch), 1, network.dense, overlap=OVERLAP, mode="gaussian", padding_mode="replicate"
    )
    assert isinstance(logits, Tensor)
    return network.pooled(logits)
