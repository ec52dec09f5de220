"""Drawn volumes: what they hold, and that they follow from seed, site, split and number alone."""

import itertools
import time

import pytest
import torch

from mucald.config.common import DataConfig, PhantomConfig, VolumeConfig, VolumePlan
from mucald.data.loading import load_site_data
from mucald.data.site_data import SiteData
from mucald.data.volumes.phantoms import PHANTOMS
from mucald.errors import ConfigError
from mucald.tasks import TASKS, Task

VOLUMES = [task for task in TASKS.values() if task.input == "volume"]
DATA = DataConfig(phantoms=PhantomConfig(8, 1, 2))


def drawn(task: str, site: str = "north", seed: int = 7, data: DataConfig = DATA) -> SiteData:
    return load_site_data(site, task, data, seed, None)


def test_every_task_of_volumes_has_phantoms() -> None:
    assert {task.name for task in VOLUMES} == PHANTOMS.keys()


@pytest.mark.parametrize("task", VOLUMES, ids=lambda task: task.name)
def test_they_are_what_networks_take(task: Task) -> None:
    batch, split = drawn(task.name).train.whole(), drawn(task.name).train
    assert split.together
    assert batch.inputs.shape == (8, task.channels, 48, 48, 32)
    assert batch.inputs.dtype == torch.float32
    assert batch.inputs.isfinite().all()
    assert 0.5 < float(batch.inputs.std()) < 2
    assert batch.measures.shape == (8, 0)
    assert batch.targets.dtype == torch.int64
    if task.target == "class":
        assert batch.targets.tolist() == [index % task.n_classes for index in range(8)]
    else:
        assert batch.targets.shape == (8, 48, 48, 32)
        shares = torch.bincount(batch.targets.flatten(), minlength=task.n_classes) / batch.targets.numel()
        assert len(shares) == task.n_classes
        assert shares[0] > 0.5
        assert shares.min() > 0.001


def test_they_follow_from_seed_and_site_and_no_two_are_alike() -> None:
    first = drawn("heart").train.whole()
    again, other_site, other_seed = (
        drawn("heart", *more).train.whole() for more in (("north", 7), ("south", 7), ("north", 8))
    )
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    every = [*first.targets, *other_site.targets, *other_seed.targets, *drawn("heart").test.whole().targets]
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(every, 2))


def test_sites_have_devices_of_their_own() -> None:
    """Grain in the air, where nothing else is, tells them apart."""
    grain = [
        float(drawn("kidneys", f"site-{n}", data=_wide()).train.whole().inputs[:, 0, 0, 0].std())
        for n in range(4)
    ]
    assert max(grain) > 1.3 * min(grain)


def _wide() -> DataConfig:
    plan = VolumePlan(intensity=(-3000.0, 3000.0, 0.0, 1.0))
    return DataConfig(phantoms=PhantomConfig(2, 1, 1), volumes=VolumeConfig(plans={"kidneys": plan}))


def test_a_plan_normalises_phantoms_of_ct_too() -> None:
    inputs = drawn("kidneys", data=_wide()).train.whole().inputs
    assert inputs[:, :, 0, 0].mean() == pytest.approx(-1000, abs=20)


def test_a_class_can_be_seen_in_the_image() -> None:
    """The right ventricle and the wall of a heart are what its disease says, in mean over hearts."""
    data = DataConfig(phantoms=PhantomConfig(25, 1, 1))
    scenes = [PHANTOMS["heart_pathology"].draw for _ in range(1)]
    sizes = torch.zeros(5, 4)
    from mucald.randomness import generator

    for index in range(data.phantoms.train):
        labels = scenes[0](generator(index), (48, 48, 32), index % 5).labels
        sizes[index % 5] += torch.bincount(torch.from_numpy(labels).flatten().long(), minlength=4) / 5
    normal, dilated, hypertrophic, _, right = sizes
    assert dilated[3] > 1.5 * normal[3]
    assert hypertrophic[2] > 1.2 * normal[2]
    assert hypertrophic[3] < 0.8 * normal[3]
    assert right[1] > 1.5 * normal[1]


def test_a_device_of_pictures_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sites.north.scanner: .*leave it out"):
        load_site_data("north", "liver", DATA, 7, None, scanner="dim")


def test_drawing_is_cheap() -> None:
    drawn("brain")
    begun = time.process_time()
    drawn("brain", seed=9)
    assert (time.process_time() - begun) / 11 < 0.1
