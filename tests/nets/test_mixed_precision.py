import pytest
import torch
from split_network import images, segments
from tiny_job import run_job, tiny_config

from mucald.errors import ConfigError
from mucald.nets import BACKBONES, backbone_of
from mucald.nets.mixed_precision import MixedPrecision

SIDE = 32


def plan_of(backbone: str, precision: str):
    network = {"backbone": backbone, "features": [8, 16, 32, 64], "cut": 1, "precision": precision}
    return backbone_of(tiny_config(network=network).network)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_only_what_is_multiplied_within_a_segment_is_in_bfloat16(backbone):
    products: set[torch.dtype] = set()
    passes = {}
    for precision in ("float32", "bfloat16"):
        front, middle, back = parts = segments(plan_of(backbone, precision))
        for module in middle.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.register_forward_hook(lambda _, __, output: products.add(output.dtype))
        latent, skips = front(images(2, SIDE))
        features = middle(latent)
        logits = back(features, skips)
        assert {t.dtype for t in (latent, *skips, features, logits)} == {torch.float32}
        logits.square().mean().backward()
        weights = {name: p for part in parts for name, p in part.named_parameters()}
        assert {p.grad.dtype for p in weights.values()} == {torch.float32}
        passes[precision] = weights.keys(), logits.detach()
    assert products == {torch.float32, torch.bfloat16}
    (names, exact), (same_names, rounded) = passes["float32"], passes["bfloat16"]
    assert names == same_names
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).norm() < 0.1 * exact.norm()


def test_a_float32_network_is_left_alone():
    assert not isinstance(plan_of("unet", "float32"), MixedPrecision)


@pytest.mark.parametrize("release", [{"mode": "fresh"}, {"mode": "once", "pretraining_epochs": 2}])
def test_a_job_learns_as_it_does_in_float32(release, tmp_path):
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = tiny_config(release=release, network={"precision": precision})
        results = run_job(config, tmp_path / precision).results
        assert not results["failures"]
        losses[precision] = [entry["sites"]["north"]["losses"]["segmentation"] for entry in results["rounds"]]
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match=r"'network\.precision' must be one of"):
        tiny_config(network={"precision": "float16"})
