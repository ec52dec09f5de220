import pytest
import torch
from monai.networks.nets.swin_unetr import PatchMerging, WindowAttention
from split_network import assert_every_parameter_learns, images, losses_of_a_short_run, segments

from mucald.errors import ConfigError
from mucald.nets import build_backbone, parameter_count
from mucald.nets.swin_unet import WINDOW, Attention, Stage, UpStage, _shift_mask
from mucald.randomness import normal, seeded_initialisation

LOCAL, STAGES, LATENT = (4, 6), (16, 32), 5
PAPER = (32, 64, 128, 256)
CPU = torch.device("cpu")


def plan(cut, norm="instance", stages=STAGES, latent=LATENT):
    return build_backbone(
        "swin_unet", features=LOCAL[:cut] + stages, cut=cut, latent_channels=latent, norm=norm
    )


def conv_count(before, after):
    return 9 * before * after + 2 * after


def double_conv_count(before, after):
    return conv_count(before, after) + conv_count(after, after)


def stage_count(width):
    """Two blocks: two layer norms, queries, keys, values, projection, position bias, and an MLP four wide."""
    attention = 3 * width * width + 3 * width + width * width + width + (2 * WINDOW - 1) ** 2 * (width // 16)
    mlp = 4 * width * width + 4 * width + 4 * width * width + width
    return 2 * (2 * width + attention + 2 * width + mlp)


def test_the_papers_cut_has_the_papers_parameter_counts():
    """1 632 and 3 049 720, where the final patch expansion is the server's and widths need no projection."""
    backbone = plan(0, "batch", PAPER, 32)
    final_expansion = 32 * 16 * 32 + 2 * 32
    projections = 2 * (32 * 32 + 32)
    assert parameter_count(backbone.front_end()) == 1_632
    assert parameter_count(backbone.middle()) == 3_049_720 - final_expansion + projections


def test_parameter_counts_by_hand():
    front, middle, back = segments(plan(1))
    assert parameter_count(front) == double_conv_count(3, 4) + (4 * 4 * 5 + 5) + 2 * 5
    assert parameter_count(middle) == (
        (5 * 16 + 16)
        + stage_count(16) + (8 * 16 * 16 + 8 * 16) + stage_count(32) + 2 * 32
        + (2 * 32 * 32 + 2 * 16) + (32 * 16 + 16) + stage_count(16)
        + 2 * 16 + (16 * 5 + 5)
    )  # fmt: skip
    assert parameter_count(back) == (
        (4 * 5 * 5 + 2 * 5) + (4 * 5 * 4 + 4) + double_conv_count(8, 4) + (4 * 3 + 3)
    )


@pytest.mark.parametrize("norm", ["instance", "group", "batch"])
@pytest.mark.parametrize("cut", [0, 1, 2])
@pytest.mark.parametrize("side", [16, 32, 64, 72])
def test_shapes(cut, side, norm):
    backbone = plan(cut, norm)
    front, middle, back = segments(backbone)
    latent, skips = front(images(2, side))
    features = middle(latent)
    assert latent.shape[1:] == backbone.latent_shape(side) == (LATENT, side // 4, side // 4)
    assert [skip.shape[1:] for skip in skips] == [(4, side, side), (6, side // 2, side // 2)][:cut]
    assert features.shape == latent.shape
    assert back(features, skips).shape == (2, 3, side, side)


@pytest.mark.parametrize("cut", [0, 1, 2])
@pytest.mark.parametrize("side", [16, 64])
def test_every_parameter_gets_a_gradient(cut, side):
    assert_every_parameter_learns(plan(cut), side)


def test_the_middle_does_not_depend_on_the_cut():
    first, *others = (segments(plan(cut))[1].state_dict() for cut in (0, 1, 2))
    for other in others:
        assert {name: t.shape for name, t in first.items()} == {name: t.shape for name, t in other.items()}


def attentions(window):
    """Return ours, and MONAI's of a window that may be smaller, with the part of our bias that it has."""
    with seeded_initialisation("attention"):
        ours = Attention(16, 2, (WINDOW, WINDOW), qkv_bias=True)
        monai = WindowAttention(16, 2, (window, window), qkv_bias=True)
    with torch.no_grad():
        ours.relative_position_bias_table.normal_(generator=torch.Generator().manual_seed(1))
    # The table is a square of offsets, with no offset at its middle.
    cut, offsets = WINDOW - window, 2 * WINDOW - 1
    square = ours.relative_position_bias_table.detach().unflatten(0, (offsets, offsets))
    part = square[cut : offsets - cut, cut : offsets - cut].flatten(0, 1)
    weights = {k: v for k, v in ours.state_dict().items() if k != "relative_position_index"}
    monai.load_state_dict(weights | {"relative_position_bias_table": part}, strict=False)
    return ours, monai


@pytest.mark.parametrize("window", [8, 5, 4, 2])
def test_attention_within_a_small_map_has_the_bias_of_its_offsets(window):
    ours, monai = attentions(window)
    x = normal((3, window**2, 16), "windows")
    torch.testing.assert_close(ours(x, None), monai(x, None), rtol=1e-4, atol=1e-5)


def test_attention_of_shifted_windows():
    ours, monai = attentions(WINDOW)
    mask = _shift_mask(16, CPU)
    x = normal((2 * 4, WINDOW**2, 16), "windows")
    assert mask.shape == (4, WINDOW**2, WINDOW**2)
    assert not torch.equal(ours(x, mask), ours(x, None))
    torch.testing.assert_close(ours(x, mask), monai(x, mask), rtol=1e-4, atol=1e-5)


def test_shifted_windows_do_not_look_across_the_border():
    """Two blocks reach from a corner over the windows beside it, not to the opposite edge of the map."""
    with seeded_initialisation("stage"):
        stage = Stage(16)
    x = normal((1, 32, 32, 16), "map").requires_grad_()
    stage(x)[0, 0, 0].sum().backward()
    reached = x.grad[0].abs().sum(dim=-1) > 0
    # The corner's shifted window ends at half a window, and the plain windows below it at a whole one.
    assert reached[:WINDOW, :WINDOW].all()
    assert reached.sum() == WINDOW**2


def test_shifted_windows_join_neighbours():
    with seeded_initialisation("stage"):
        stage = Stage(16)
    x = normal((1, 32, 32, 16), "map").requires_grad_()
    stage(x)[0, WINDOW, WINDOW].sum().backward()
    assert (x.grad[0].abs().sum(dim=-1) > 0).sum() == (2 * WINDOW) ** 2


def test_patch_merging_then_expansion_keep_places():
    """A pixel's neighbourhood of 2 x 2 goes down to one place and comes up to the same one."""
    down, up = PatchMerging(16, spatial_dims=2), UpStage(16)
    up.stage = torch.nn.Identity()
    x = normal((1, 8, 8, 16), "map").requires_grad_()
    up(down(x), torch.zeros(1, 8, 8, 16))[0, 5, 2].sum().backward()
    places = x.grad[0].abs().sum(dim=-1).nonzero().tolist()
    assert places == [[4, 2], [4, 3], [5, 2], [5, 3]]


def test_expanded_places_are_ordered_by_row_and_column():
    up = UpStage(1 * 16)
    up.stage, up.norm = torch.nn.Identity(), torch.nn.Identity()
    with torch.no_grad():
        up.expand.weight.zero_()[:, 0] = torch.arange(4).repeat_interleave(16)
        up.merge.weight.zero_()[0, 0] = 1
        up.merge.bias.zero_()
    x = torch.zeros(1, 1, 2, 32)
    x[..., 0] = torch.tensor([1.0, 10.0])
    expected = torch.tensor([[0.0, 1.0, 0.0, 10.0], [2.0, 3.0, 20.0, 30.0]])
    assert torch.equal(up(x, torch.zeros(1, 2, 4, 16))[0, :, :, 0], expected)


@pytest.mark.parametrize("cut", [1, 2])
def test_skips_reach_the_logits(cut):
    front, middle, back = segments(plan(cut))
    image = images(1, 16)
    latent, skips = front(image)
    features = middle(latent)
    other_skips = front(image + image.square())[1]
    assert not torch.equal(back(features, skips), back(features, other_skips))


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_without_running_statistics_an_image_is_scored_alone(norm):
    front, middle, back = segments(plan(1, norm))

    def predict(batch):
        latent, skips = front(batch)
        return back(middle(latent), skips)

    together = predict(images(2, 64))
    for module in (front, middle, back):
        module.eval()
    torch.testing.assert_close(predict(images(2, 64)[:1]), together[:1], rtol=1e-3, atol=1e-4)


def test_training_draws_nothing():
    """Two passes are equal: neither dropout nor stochastic depth."""
    middle = segments(plan(2))[1].train()
    latent = normal((1, LATENT, 8, 8), "latent")
    assert torch.equal(middle(latent), middle(latent))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cut": 3}, r"'cut' must lie in 0..2, not 3: the Swin stages begin at 1/4"),
        ({"cut": -1}, r"'cut' must lie in 0..1"),
        ({"cut": 2}, r"'cut' must lie in 0..1, not 2: the server needs 2 or more of the 3 levels"),
        ({"features": (4, 16, 48)}, r"doubled from stage to stage, not \(16, 48\)"),
        ({"features": (4, 8, 16)}, "a multiple of 16"),
        ({"features": (4,)}, "two or more"),
        ({"latent_channels": 0}, "'latent_channels' must be positive"),
        ({"norm": "layer"}, "unknown norm 'layer'"),
    ],
)
def test_wrong_arguments(changes, message):
    arguments = {"features": (4, 16, 32), "cut": 1, "latent_channels": 5, "norm": "instance"} | changes
    with pytest.raises(ConfigError, match=message):
        build_backbone("swin_unet", **arguments)


@pytest.mark.parametrize("image_size", [8, 20, 0])
def test_image_sizes_that_do_not_fit(image_size):
    with pytest.raises(ConfigError, match="multiple of 8 and at least 16"):
        plan(1).check_image_size(image_size)


def test_its_job_learns(tmp_path):
    losses = losses_of_a_short_run("mucald_swin_unet", tmp_path)
    assert losses[-1] < 0.95 * losses[0], losses
