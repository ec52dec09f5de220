"""Volumes that are larger than a patch are passed through in windows."""

import pytest
import torch
from monai.inferers.utils import sliding_window_inference

from mucald.config.common import AdaptedConfig
from mucald.nets.adapted import AdaptedPlan
from mucald.tasks import get_task
from mucald.training.windows import predicted

PATCH = (8, 8, 8)


def network(task, head="average"):
    torch.manual_seed(1)
    plan = AdaptedPlan(AdaptedConfig(backbone="dynunet", features=(4, 6, 8), adaptor_channels=4, head=head))
    parts = {part: plan.part(part, get_task(task)) for part in plan.parts}
    return plan.whole(parts, get_task(task)).eval()


def test_a_segmentation_is_that_of_monais_sliding_window():
    whole, volume = network("liver"), torch.randn(1, 1, 13, 16, 9)
    expected = sliding_window_inference(
        volume, PATCH, 4, whole, overlap=0.5, mode="gaussian", padding_mode="replicate"
    )
    assert torch.allclose(predicted(whole, volume, PATCH), expected, atol=1e-5)
    assert not predicted(whole, volume, PATCH).requires_grad


@pytest.mark.parametrize("head", ["average", "lse"])
@pytest.mark.parametrize("task", ["liver", "liver_lesion"])
def test_a_volume_of_one_patch_is_passed_through_and_a_smaller_one_is_padded(task, head):
    whole, volume = network(task, head), torch.randn(1, 1, *PATCH)
    assert torch.equal(predicted(whole, volume, PATCH), whole(volume))
    small = predicted(whole, volume[..., :6], PATCH)
    assert small.shape == ((1, 3) if task == "liver_lesion" else (1, 3, 8, 8, 6))
    assert small.isfinite().all()


@pytest.mark.parametrize("head", ["average", "lse"])
def test_a_class_is_told_by_the_blended_map_of_all_windows(head):
    whole, volume = network("liver_lesion", head), torch.randn(1, 1, 16, 12, 8)
    blended = sliding_window_inference(
        volume, PATCH, 4, whole.dense, overlap=0.5, mode="gaussian", padding_mode="replicate"
    )
    assert torch.allclose(predicted(whole, volume, PATCH), whole.pooled(blended), atol=1e-5)
    assert not torch.allclose(predicted(whole, volume, PATCH), whole(volume[:, :, :8, :8]), atol=1e-3)


def test_images_are_passed_through_whole():
    whole, images = network("kvasir"), torch.randn(2, 3, 32, 16)
    assert torch.equal(predicted(whole, images, None), whole(images))
