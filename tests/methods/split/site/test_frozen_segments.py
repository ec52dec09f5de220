import gc
import weakref

import pytest
import torch
from tiny_job import CPU, PLAIN, draw, tiny_config

from mucald.methods.split.model.segments import ServerSegments
from mucald.methods.split.site.frozen_segments import FrozenSegments
from mucald.methods.split.site.release import Release
from mucald.state.averages import gradient_norm
from mucald.tasks import get_task

ONCE = {"release": {"mode": "once", "pretraining_epochs": 2, "stand_in": True}}


def test_pretraining_with_a_stand_in_is_that_of_the_whole_network_on_what_would_be_released():
    config = tiny_config(PLAIN, ONCE)
    release = Release(config.release, "a secret", "north")
    segments = FrozenSegments(config, "north", 2, release, CPU)
    images, labels, key = draw(2, 3, 16, 16).sigmoid(), (draw(2, 16, 16, seed=1) > 0).long(), ("epoch", 0)
    whole = FrozenSegments(config, "north", 2, release, CPU)
    middle = ServerSegments(config, get_task("kvasir")).middle
    latent, skips = whole.front_end(images)
    features = middle(release.latent(latent, *key).latent)
    expected = whole.loss.combine(whole.loss.terms(whole.back_end(features, skips), labels))
    expected.backward()
    result = segments.pretrain_step(images, labels, key)
    assert result.losses == {"segmentation": pytest.approx(expected.item(), rel=1e-6)}
    for name, module in (("front_end", whole.front_end), ("middle", middle), ("back_end", whole.back_end)):
        norm = gradient_norm(module.parameters())
        assert norm > 0
        assert result.gradients[name] == pytest.approx(norm, rel=1e-4), name


def test_what_stood_in_for_the_server_is_kept_nowhere():
    config = tiny_config(PLAIN, ONCE)
    segments = FrozenSegments(config, "north", 2, Release(config.release, "a secret", "north"), CPU)
    before = segments.state().keys()
    segments.pretrain_step(draw(2, 3, 16, 16).sigmoid(), torch.zeros(2, 16, 16).long(), ("epoch", 0))
    stood_in = weakref.ref(segments._stand_in)
    segments.end_pretraining([1.0])
    gc.collect()
    assert stood_in() is None
    moments = {name for name in segments.state() if name.startswith("optimiser.")}
    assert segments.state().keys() - moments == before | {"pretraining"}
