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
    expected = sliding_window_inference(volume, PATCH, 4, whole, overlap=0.5, mode="gaussian")
    assert torch.allclose(predicted(whole, volume, PATCH), expected, atol=1e-5)
    assert not predicted(whole, volume, PATCH).requires_grad


def test_a_volume_of_one_patch_is_passed_through_and_a_smaller_one_is_padded():
    whole, volume = network("liver"), torch.randn(1, 1, *PATCH)
    assert torch.equal(predicted(whole, volume, PATCH), whole(volume))
    padded = whole(torch.nn.functional.pad(volume[..., :6], (1, 1)))
    assert torch.allclose(predicted(whole, volume[..., :6], PATCH), padded[..., 1:7], atol=1e-5)


@pytest.mark.parametrize("head", ["average", "lse"])
def test_volumes_that_have_one_class_are_taken_whole(head):
    whole, volume = network("liver_lesion", head), torch.randn(2, 1, 16, 12, 8)
    assert torch.equal(predicted(whole, volume, None), whole(volume))


def test_images_are_passed_through_whole():
    whole, images = network("kvasir"), torch.randn(2, 3, 32, 16)
    assert torch.equal(predicted(whole, images, None), whole(images))
