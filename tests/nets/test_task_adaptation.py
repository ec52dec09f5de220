import pytest
import torch
from tiny_job import CPU, draw, equal_tensors, tiny_config
from torch import nn

from mucald.methods.split.algorithms.splitfed import SplitFed
from mucald.methods.split.site.release import Release
from mucald.methods.split.site.segments import SiteSegments
from mucald.nets import parameter_count
from mucald.nets.task_adaptation import SpatialAttention, TaskAdaptation
from mucald.state.checkpoint import without_prefix


def segments(adapted: bool) -> SiteSegments:
    config = tiny_config(network={"task_adaptation": adapted})
    release = Release(config.release, "a secret", "north")
    return SiteSegments(config, SplitFed(), "north", 2, release, CPU)


@pytest.mark.parametrize("channels", [1, 5, 16])
def test_the_shape_stays_and_every_weight_learns(channels):
    network = TaskAdaptation(channels)
    features = draw(2, channels, 6, 4)
    with torch.no_grad():
        next(m for m in network.modules() if isinstance(m, SpatialAttention)).gamma.fill_(1.0)
    output = network(features)
    assert output.shape == features.shape
    output.square().sum().backward()
    # A bias of the keys moves all scores of a pixel alike, which softmax does not see; nor do keys of a
    # single channel without spread.
    silent = [name for name, p in network.named_parameters() if not p.grad.any()]
    assert all("key.bias" in name for name in silent)


def test_it_is_a_bottleneck_of_half_the_channels():
    half, full = 8, 16
    convolutions = (full + 1) * half + (9 * half + 1) * half + (half + 1) * full
    assert parameter_count(TaskAdaptation(full)) == convolutions + 3 * (half + 1) * half + 1


def test_attention_begins_as_the_identity_and_mixes_pixels_then():
    attention = SpatialAttention(4)
    x = draw(1, 4, 3, 3)
    assert torch.equal(attention(x), x)
    nn.init.ones_(attention.gamma)
    moved = x.clone()
    moved[..., 0, 0] += 1.0
    changed = (attention(moved) - attention(x)).abs().sum(dim=1)[0] > 1e-6
    assert changed.all(), "every pixel sees every other"


def test_attention_is_softmax_of_scaled_products():
    attention, x = SpatialAttention(4), draw(2, 4, 3, 2)
    nn.init.constant_(attention.gamma, 0.7)
    query, key, value = (layer(x).flatten(2) for layer in (attention.query, attention.key, attention.value))
    scores = torch.einsum("bci,bcj->bij", query, key) / 4**0.5
    expected = torch.einsum("bij,bcj->bci", scores.softmax(dim=2), value).view_as(x)
    torch.testing.assert_close(attention(x), x + 0.7 * expected)


def test_only_the_back_end_changes_and_it_keeps_its_weights():
    plain, adapted = segments(False).weights(), segments(True).weights()
    front = {name: t for name, t in plain.items() if name.startswith("front_end.")}
    assert equal_tensors({name: adapted[name] for name in front}, front)
    inner = without_prefix("back_end.back_end", adapted)
    assert equal_tensors(inner, without_prefix("back_end", plain))
    rest = adapted.keys() - front.keys() - {f"back_end.back_end.{name}" for name in inner}
    assert rest == {f"back_end.adaptation.{name}" for name in TaskAdaptation(4).state_dict()}


def test_the_adaptation_learns_with_the_site():
    site = segments(True)
    before = {name: tensor.clone() for name, tensor in site.weights().items()}
    images, labels = draw(2, 3, 16, 16).sigmoid(), (draw(2, 16, 16, seed=1) > 0).long()
    site.train_step(images, labels, (0, 0, "train"), lambda released: released.latent.detach(), lambda g: g)
    name = "back_end.adaptation.bottleneck.0.weight"
    assert not torch.equal(site.weights()[name], before[name])
