import gc
import weakref

import pytest
from tiny_job import CPU, PLAIN, draw, site_data, tiny_config

from mucald.methods.split.algorithms.splitfed import SplitFed
from mucald.methods.split.model.segments import ServerSegments
from mucald.methods.split.site import once
from mucald.methods.split.site.once import SingleReleases
from mucald.methods.split.site.release import Release
from mucald.methods.split.site.segments import SiteSegments
from mucald.methods.split.site.stand_in import StandIn
from mucald.state.averages import gradient_norm
from mucald.tasks import get_task

ONCE = {"release": {"mode": "once", "pretraining_epochs": 2, "stand_in": True}}


def test_pretraining_with_a_stand_in_is_that_of_the_whole_network_on_what_would_be_released():
    config = tiny_config(PLAIN, ONCE)
    release = Release(config.release, "a secret", "north")
    segments = SiteSegments(config, SplitFed(), "north", 2, release, CPU)
    images, labels, key = draw(2, 3, 16, 16).sigmoid(), (draw(2, 16, 16, seed=1) > 0).long(), ("epoch", 0)
    whole = SiteSegments(config, SplitFed(), "north", 2, release, CPU)
    middle = ServerSegments(config, SplitFed(), get_task("kvasir")).middle
    latent, skips = whole.front_end(images)
    features = middle(release.latent(latent, *key).latent)
    expected = whole.loss.combine(whole.loss.terms(whole.back_end(features, skips), labels))
    expected.backward()
    result = segments.train_alone(images, labels, key, StandIn(config, CPU))
    assert result.losses == {"segmentation": pytest.approx(expected.item(), rel=1e-6)}
    for name, module in (("front_end", whole.front_end), ("middle", middle), ("back_end", whole.back_end)):
        norm = gradient_norm(module.parameters())
        assert norm > 0
        assert result.gradients[name] == pytest.approx(norm, rel=1e-4), name


def test_what_stood_in_for_the_server_is_kept_nowhere(monkeypatch):
    config, stood_in = tiny_config(PLAIN, ONCE), []

    def noted(*arguments) -> StandIn:
        made = StandIn(*arguments)
        stood_in.append(weakref.ref(made))
        return made

    monkeypatch.setattr(once, "StandIn", noted)
    release = Release(config.release, "a secret", "north")
    segments = SiteSegments(config, SplitFed(), "north", 2, release, CPU)
    releases = SingleReleases(config, site_data(config, "north"), segments, release)
    before = releases.state().keys()
    assert releases.prepare()
    assert not releases.prepare(), "it has been done"
    gc.collect()
    assert [reference() for reference in stood_in] == [None]
    moments = {name for name in releases.state() if name.startswith("optimiser.")}
    assert releases.state().keys() - moments == before | {"pretraining"}
