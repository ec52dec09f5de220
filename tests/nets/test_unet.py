import pytest
import torch
from torch import nn

from mucald.errors import ConfigError
from mucald.nets import build_backbone, parameter_count
from mucald.nets.blocks import conv_norm_relu
from mucald.randomness import normal, seeded_initialisation

PAPER = {"features": (32, 64, 128, 256, 512), "latent_channels": 32}
SMALL = {"features": (4, 6, 8, 10), "latent_channels": 5}


def plan(cut, norm="instance", **sizes):
    return build_backbone("unet", cut=cut, norm=norm, **(sizes or SMALL))


def segments(backbone, n_classes=3):
    with seeded_initialisation("test"):
        return backbone.front_end(), backbone.middle(), backbone.back_end(n_classes)


def double_conv_count(before, after):
    """Two 3x3 convolutions without bias, each with a scale and a shift per channel."""
    return 9 * before * after + 9 * after * after + 4 * after


def test_the_papers_cut_has_the_papers_parameter_counts():
    backbone = plan(0, "batch", **PAPER)
    assert parameter_count(backbone.front_end()) == 928
    assert parameter_count(backbone.middle()) == 7_752_800
    assert parameter_count(backbone.back_end(2)) == 9_346
    assert parameter_count(backbone.back_end(5)) == 9_445


def test_parameter_counts_at_cut_2_by_hand():
    front, middle, back = segments(plan(2))
    assert parameter_count(front) == double_conv_count(3, 4) + double_conv_count(4, 6) + (6 * 5 + 5)
    assert parameter_count(middle) == (
        double_conv_count(5, 8) + double_conv_count(8, 10)
        + (4 * 10 * 8 + 8) + double_conv_count(16, 8)
        + (8 * 5 + 5)
    )  # fmt: skip
    assert parameter_count(back) == (
        (4 * 5 * 6 + 6) + double_conv_count(12, 6)
        + (4 * 6 * 4 + 4) + double_conv_count(8, 4)
        + (4 * 3 + 3)
    )  # fmt: skip


@pytest.mark.parametrize("norm", ["instance", "group", "batch"])
@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_shapes_at_every_cut_and_norm(cut, norm):
    backbone = plan(cut, norm)
    front, middle, back = segments(backbone)
    image = normal((2, 3, 16, 16), "image")

    latent, skips = front(image)
    features = middle(latent)
    logits = back(features, skips)

    assert latent.shape[1:] == backbone.latent_shape(16) == (5, 16 >> cut, 16 >> cut)
    assert [skip.shape[1:] for skip in skips] == [(4, 16, 16), (6, 8, 8), (8, 4, 4)][:cut]
    assert features.shape == latent.shape
    assert logits.shape == (2, 3, 16, 16)


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_every_parameter_gets_a_gradient(cut):
    front, middle, back = segments(plan(cut))
    latent, skips = front(normal((2, 3, 32, 32), "image"))
    back(middle(latent), skips).square().mean().backward()
    for module in (front, middle, back):
        for name, parameter in module.named_parameters():
            assert parameter.grad.abs().sum() > 0, name


def test_skips_reach_the_logits_except_at_the_papers_cut():
    """At cut 0 all the image's information crosses; at cut 2 the logits see it through the skips too."""
    image = normal((1, 3, 16, 16), "image")
    for cut, sees_image in ((0, False), (2, True)):
        front, _, back = segments(plan(cut))
        latent, skips = front(image)
        other_skips = front(image + 1 + image.square())[1]
        nothing = torch.zeros_like(latent)
        assert (not torch.equal(back(nothing, skips), back(nothing, other_skips))) == sees_image


def test_a_site_with_all_levels_leaves_nothing_in_between():
    front, middle, back = segments(plan(4))
    assert not list(middle.parameters())
    latent, skips = front(torch.rand(2, 3, 32, 32))
    assert latent.shape == (2, *plan(4).latent_shape(32)) == (2, 5, 2, 2)
    assert torch.equal(middle(latent), latent)
    assert back(latent, skips).shape == (2, 3, 32, 32)


def test_the_latent_is_rectified_only_at_the_papers_cut():
    image = normal((1, 3, 16, 16), "image")
    assert segments(plan(0))[0](image)[0].min() >= 0
    assert segments(plan(2))[0](image)[0].min() < 0


@pytest.mark.parametrize(("norm", "layer"), [("instance", nn.InstanceNorm2d), ("batch", nn.BatchNorm2d)])
def test_norm_layers(norm, layer):
    (found,) = [m for m in conv_norm_relu(3, 4, norm).modules() if isinstance(m, layer)]
    assert found.affine
    assert found.track_running_stats == (norm == "batch")


@pytest.mark.parametrize(("channels", "groups"), [(4, 4), (8, 8), (12, 4), (32, 8)])
def test_group_norm_has_at_most_eight_groups(channels, groups):
    (found,) = [m for m in conv_norm_relu(3, channels, "group").modules() if isinstance(m, nn.GroupNorm)]
    assert found.num_groups == groups


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_without_running_statistics_an_image_is_scored_alone(norm):
    """Neither the rest of the batch nor the mode changes an image's logits."""
    front, middle, back = segments(plan(1, norm))
    images = normal((2, 3, 16, 16), "image")

    def predict(batch):
        latent, skips = front(batch)
        return back(middle(latent), skips)

    together = predict(images)
    for module in (front, middle, back):
        module.eval()
    torch.testing.assert_close(predict(images[:1]), together[:1], rtol=1e-4, atol=1e-5)


def test_the_same_seed_builds_the_same_network():
    first, second = (segments(plan(1))[1].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cut": 5}, r"'cut' must lie in 0..4"),
        ({"cut": -1}, r"'cut' must lie in 0..4"),
        ({"features": (4,)}, "two or more"),
        ({"features": (4, 0)}, "positive"),
        ({"latent_channels": 0}, "'latent_channels' must be positive"),
        ({"norm": "bacth"}, "did you mean 'batch'"),
    ],
)
def test_wrong_arguments(changes, message):
    arguments = {**SMALL, "cut": 1, "norm": "instance"} | changes
    with pytest.raises(ConfigError, match=message):
        build_backbone("unet", **arguments)


def test_unknown_backbone():
    with pytest.raises(ConfigError, match="unknown backbone 'unnet'; did you mean 'unet'"):
        build_backbone("unnet", cut=1, norm="instance", **SMALL)


@pytest.mark.parametrize("image_size", [8, 20, 0])
def test_image_sizes_that_do_not_fit(image_size):
    with pytest.raises(ConfigError, match="multiple of 8 and at least 16"):
        plan(1).check_image_size(image_size)
    with pytest.raises(ConfigError):
        plan(1).latent_shape(image_size)
