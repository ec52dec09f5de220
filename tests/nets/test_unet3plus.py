import pytest
import torch
from split_network import assert_every_parameter_learns, images, losses_of_a_short_run, segments
from torch import nn

from mucald.errors import ConfigError
from mucald.nets import build_backbone, parameter_count
from mucald.nets.unet3plus import FullScale, resize
from mucald.randomness import normal

SMALL = {"features": (4, 6, 8, 10), "latent_channels": 5}
PAPER = {"features": (64, 128, 256, 512, 1024), "latent_channels": 64}


def plan(cut, norm="instance", **sizes):
    return build_backbone("unet3plus", cut=cut, norm=norm, **(sizes or SMALL))


def conv_count(before, after):
    """A 3x3 convolution without bias, and a scale and a shift per channel."""
    return 9 * before * after + 2 * after


def double_conv_count(before, after):
    return conv_count(before, after) + conv_count(after, after)


def test_the_papers_cut_has_the_papers_parameter_count_at_the_server():
    """23 609 088, without the biases before normalisations, with the projection to the latent's channels."""
    biases = 2 * (128 + 256 + 512 + 1024) + 3 * (4 * 64 + 256)
    to_features = 4 * 64 * 64 + 64
    assert parameter_count(plan(1, "batch", **PAPER).middle()) == 23_609_088 - biases + to_features


def test_parameter_counts_at_cut_1_by_hand():
    """The server has widths 6, 8, 10 and takes 4 channels from each of its three scales."""
    front, middle, back = segments(plan(1))
    assert parameter_count(front) == double_conv_count(3, 4) + (4 * 5 + 5)
    assert parameter_count(middle) == (
        double_conv_count(5, 6) + double_conv_count(6, 8) + double_conv_count(8, 10)
        + conv_count(6, 4) + conv_count(8, 4) + conv_count(10, 4) + conv_count(12, 12)
        + conv_count(6, 4) + conv_count(12, 4) + conv_count(10, 4) + conv_count(12, 12)
        + (12 * 5 + 5)
    )  # fmt: skip
    assert parameter_count(back) == (4 * 5 * 4 + 4) + double_conv_count(8, 4) + (4 * 3 + 3)


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_the_sites_part_is_that_of_the_unet(cut):
    ours, unet = plan(cut), build_backbone("unet", cut=cut, norm="instance", **SMALL)
    for one, other in zip(segments(ours)[::2], segments(unet)[::2], strict=True):
        shapes = [{name: tensor.shape for name, tensor in m.state_dict().items()} for m in (one, other)]
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize("norm", ["instance", "group", "batch"])
@pytest.mark.parametrize(("cut", "side"), [(0, 16), (1, 16), (2, 16), (0, 24), (1, 40), (2, 64)])
def test_shapes(cut, side, norm):
    backbone = plan(cut, norm)
    front, middle, back = segments(backbone)
    latent, skips = front(images(2, side))
    features = middle(latent)
    assert latent.shape[1:] == backbone.latent_shape(side) == (5, side >> cut, side >> cut)
    assert [skip.shape[1:] for skip in skips] == [(4, side, side), (6, side // 2, side // 2)][:cut]
    assert features.shape == latent.shape
    assert back(features, skips).shape == (2, 3, side, side)


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_every_parameter_gets_a_gradient(cut):
    assert_every_parameter_learns(plan(cut), 32)


def test_resize_pools_down_and_interpolates_up():
    x = normal((2, 3, 8, 8), "map")
    assert torch.equal(resize(x, 2), x.unfold(2, 4, 4).unfold(3, 4, 4).amax(dim=(-1, -2)))
    assert resize(x, 8) is x
    # Between the middles of two pixels the map is linear; beyond the outer middles it is constant.
    line = torch.tensor([0.0, 4.0]).expand(1, 1, 2, 2)
    assert torch.equal(resize(line, 4), torch.tensor([0.0, 1.0, 3.0, 4.0]).expand(1, 1, 4, 4))


def test_a_decoder_level_is_the_merged_reductions_of_all_scales():
    level = FullScale((2, 3, 4), 5, "group")
    scales = [normal((1, channels, side, side), side) for channels, side in ((2, 16), (3, 8), (4, 4))]
    pooled = nn.functional.max_pool2d(scales[0], 2)
    upsampled = nn.functional.interpolate(scales[2], scale_factor=2, mode="bilinear")
    parts = [f(x) for f, x in zip(level.reduce, (pooled, scales[1], upsampled), strict=True)]
    torch.testing.assert_close(level(scales, 8), level.merge(torch.cat(parts, dim=1)))


def test_decoder_levels_take_decoded_maps_from_below_and_encoded_ones_from_above():
    middle = segments(plan(0))[1]
    seen = []
    for level in middle.decoder:
        level.register_forward_hook(lambda _, inputs, output: seen.append(([*inputs[0]], output)))
    middle(normal((1, 5, 32, 32), "latent"))
    (third, third_out), (second, second_out), (first, _) = seen
    assert [scale.shape[1] for scale in third] == [4, 6, 8, 10]
    # One place more is decoded at every level, and nothing else has changed.
    assert second[2] is third_out
    assert first[1] is second_out
    assert first[2] is third_out
    assert all(a is b for a, b in zip(second[:2], third[:2], strict=True))
    assert first[0] is third[0]
    assert first[3] is second[3] is third[3]


def test_neither_features_nor_logits_are_squashed():
    front, middle, back = segments(plan(1))
    latent, skips = front(images(1, 16))
    features = middle(latent)
    logits = back(features, skips)
    assert features.min() < 0
    assert logits.min() < 0
    assert isinstance(back.classify, nn.Conv2d)


def test_skips_are_local():
    """The logits see the image through the skips, and the server's part knows nothing of them."""
    front, middle, back = segments(plan(2))
    image = images(1, 16)
    latent, skips = front(image)
    other_skips = front(image + image.square())[1]
    features = middle(latent)
    assert not torch.equal(back(features, skips), back(features, other_skips))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cut": 3}, r"'cut' must lie in 0..2, not 3: the server needs 2 or more of the 4 levels"),
        ({"cut": -1}, r"'cut' must lie in 0..2"),
        ({"features": (4,), "cut": 0}, "two or more"),
        ({"features": (4, 8), "cut": 1}, r"'cut' must lie in 0..0"),
        ({"features": (4, 0, 8)}, "positive"),
        ({"latent_channels": 0}, "'latent_channels' must be positive"),
        ({"norm": "bacth"}, "did you mean 'batch'"),
    ],
)
def test_wrong_arguments(changes, message):
    arguments = {**SMALL, "cut": 1, "norm": "instance"} | changes
    with pytest.raises(ConfigError, match=message):
        build_backbone("unet3plus", **arguments)


@pytest.mark.parametrize("image_size", [8, 20, 0])
def test_image_sizes_that_do_not_fit(image_size):
    with pytest.raises(ConfigError, match="multiple of 8 and at least 16"):
        plan(1).check_image_size(image_size)


def test_its_job_learns(tmp_path):
    losses = losses_of_a_short_run("mucald_unet3plus", tmp_path)
    assert losses[-1] < 0.95 * losses[0], losses
