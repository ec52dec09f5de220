"""Adaptor, encoder and decoder as one network, for segmentation and classification."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from mucald.config.common import AdaptedConfig, DataConfig, VolumeConfig
from mucald.config.schema import parse
from mucald.errors import ConfigError
from mucald.nets.adapted import AdaptedPlan, Adaptor
from mucald.nets.dynunet import Decoder
from mucald.nets.pooling import average, log_mean_exp
from mucald.nets.whole import whole_plan
from mucald.tasks import get_task

CONFIG = AdaptedConfig(backbone="dynunet", features=(4, 6, 8), adaptor_channels=5)
LSE = replace(CONFIG, head="lse")
INPUTS = {"liver": (1, 8, 8, 8), "brain": (4, 8, 8, 8), "kvasir": (3, 16, 16)}


def network(task: str, config: AdaptedConfig = CONFIG) -> nn.Module:
    torch.manual_seed(1)
    plan = AdaptedPlan(config)
    return plan.whole({part: plan.part(part, get_task(task)) for part in plan.parts}, get_task(task))


@pytest.mark.parametrize("task", INPUTS)
def test_a_segmentation_has_logits_for_every_voxel_or_pixel(task):
    channels, *sides = INPUTS[task]
    logits = network(task)(torch.randn(2, channels, *sides))
    assert logits.shape == (2, get_task(task).n_classes, *sides)


def test_an_adaptor_gives_features_of_mean_0_and_variance_1_whatever_the_modality():
    for channels in (1, 4):
        features = Adaptor(3, channels, 6)(7 + 3 * torch.randn(2, channels, 8, 8, 8))
        assert features.shape == (2, 6, 8, 8, 8)
        assert features.mean(dim=(2, 3, 4)).abs().max() < 1e-4
        assert features.var(dim=(2, 3, 4)).sub(1).abs().max() < 0.1
    assert [name for name, _ in Adaptor(3, 1, 6).named_parameters()] == ["0.weight"]


@pytest.mark.parametrize("config", [CONFIG, LSE])
def test_a_classification_has_logits_for_every_sample(config):
    whole = network("liver_lesion", config)
    assert whole(torch.randn(2, 1, 8, 16, 8)).shape == (2, 3)
    assert isinstance(whole.decoder, Decoder) is (config is LSE)


def test_averaging_after_the_linear_layer_is_global_average_pooling_before_it():
    whole, inputs = network("liver_lesion"), torch.randn(2, 1, 8, 8, 8)
    deepest, _ = whole.encoder(whole.adaptor(inputs))
    head = whole.decoder.classify
    expected = nn.functional.linear(deepest.mean(dim=(2, 3, 4)), head.weight.flatten(1), head.bias)
    assert torch.allclose(whole(inputs), expected, atol=1e-6)


def test_lse_pooling_lies_between_mean_and_maximum():
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    expected = (5 * logits).flatten(2).exp().mean(dim=2).log() / 5
    assert torch.allclose(log_mean_exp(logits, 5.0), expected)
    assert torch.allclose(log_mean_exp(logits, 1e-6), average(logits), atol=1e-5)
    assert torch.allclose(log_mean_exp(logits, 1e5), logits.flatten(2).amax(dim=2), atol=1e-4)
    assert torch.allclose(log_mean_exp(logits + 1e4, 5.0), expected + 1e4), "large logits overflow nothing"


def test_the_gradient_of_lse_pooling_is_a_softmax_that_sums_to_one():
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    log_mean_exp(logits, 5.0).sum().backward()
    flat = logits.detach().flatten(2)
    assert torch.allclose(logits.grad.flatten(2), (5 * flat).softmax(dim=2))
    assert torch.allclose(logits.grad.sum(dim=(2, 3)), torch.ones(2, 3, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: log_mean_exp(x, 5.0), logits)


def test_parts_are_of_one_kind_where_sites_can_share_them():
    plan, tasks = (
        AdaptedPlan(CONFIG),
        {name: get_task(name) for name in ("liver", "lungs", "brain", "kvasir")},
    )
    kinds = {part: {name: plan.kind(part, task) for name, task in tasks.items()} for part in plan.parts}
    assert kinds["adaptor"]["liver"] == kinds["adaptor"]["lungs"] != kinds["adaptor"]["brain"]
    assert kinds["encoder"]["liver"] == kinds["encoder"]["brain"] != kinds["encoder"]["kvasir"]
    assert kinds["decoder"]["liver"] == kinds["decoder"]["lungs"] != kinds["decoder"]["brain"]


@pytest.mark.parametrize(
    ("patch", "fits"), [((16, 16, 8), True), ((4, 4, 8), True), ((4, 4, 4), False), ((9, 8, 8), False)]
)
def test_a_patch_must_be_halved_down_to_more_than_one_voxel(patch, fits):
    data = DataConfig(volumes=VolumeConfig(patch_size=patch))
    plan = whole_plan(CONFIG, 3.0)
    if fits:
        plan.check(data, get_task("liver"))
    else:
        with pytest.raises(ConfigError, match=r"'data.volumes.patch_size' must be multiples of 4"):
            plan.check(data, get_task("liver"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": [4, 8]}, "features must name three or more"),
        ({"adaptor_channels": 0}, "adaptor_channels must be at least 1"),
        ({"head": "lsee"}, r"'head' must be one of .*did you mean 'lse'"),
        ({"sharpness": 0.0}, "sharpness must be positive"),
        ({"cut": 2}, "unknown key 'cut'"),
    ],
)
def test_a_wrong_key_is_named(changes, message):
    content = {"backbone": "dynunet", "features": [4, 6, 8]} | changes
    with pytest.raises(ConfigError, match=message):
        parse(AdaptedConfig, content)


def test_log_mean_exp_of_one_place_is_the_logit():
    assert float(log_mean_exp(torch.tensor([[[math.pi]]]), 5.0)) == pytest.approx(math.pi)
