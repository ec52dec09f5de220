"""What a network says of volumes that are larger than the patches that it was trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

OVERLAP = 0.5
"""Of neighbouring windows, in their sides."""


@torch.no_grad()
def predicted(network: nn.Module, inputs: Tensor, patch: Sequence[int] | None) -> Tensor:
    """Return logits for samples (B, channels, …).

    Volumes are passed through by MONAI's sliding window: windows of the size of a patch, blended with a
    Gaussian weight, and 0 beyond the volume, as in training.

    Args:
        network: in evaluation mode.
        inputs: on the network's device.
        patch: size of a patch; None of samples that are taken whole, as in training: images, and volumes that
            have one class.
    """
    if patch is None or tuple(inputs.shape[2:]) == tuple(patch):
        return network(inputs)
    # Imported here: it takes a process longer than torch, and many have volumes of one patch.
    from monai.inferers.utils import sliding_window_inference

    logits = sliding_window_inference(inputs, tuple(patch), 1, network, overlap=OVERLAP, mode="gaussian")
    assert isinstance(logits, Tensor)
    return logits
