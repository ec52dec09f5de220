"""Patches to train on: where they lie, that they follow from seed, site, round and step, how they change."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_job import tiny_config
from torch import Tensor

from mucald.config.common import DataConfig, PhantomConfig, VolumeConfig
from mucald.config.job import JobConfig
from mucald.data.augmentation import training_batch
from mucald.data.loading import load_site_data
from mucald.data.site_data import Batch
from mucald.data.volumes.augmentation import Intensities, drawn_warp, warped
from mucald.data.volumes.patches import centred, cut_out, patch_centre
from mucald.data.volumes.split import VolumeSplit
from mucald.randomness import generator

SIZE = (16, 24, 8)


def config(augmentation: float = 0.0, size: tuple[int, ...] = SIZE, batch_size: int = 3) -> JobConfig:
    base = tiny_config()
    data = DataConfig(phantoms=PhantomConfig(4, 1, 1), volumes=VolumeConfig(size, (32, 32, 16)))
    training = dataclasses.replace(base.training, augmentation=augmentation, batch_size=batch_size)
    return dataclasses.replace(base, data=data, training=training)


def batch_of(
    job: JobConfig, task: str = "brain", site: str = "north", phase: int = 0, step: int = 0
) -> Batch:
    data = load_site_data("north", task, job.data, 7, None)
    return training_batch(job, site, data, phase, step, range(3))


def numbered(shape: tuple[int, int, int]) -> Tensor:
    """A volume whose voxels hold their own coordinates, one channel per axis."""
    return torch.stack(torch.meshgrid(*(torch.arange(1.0, n + 1) for n in shape), indexing="ij"))


@pytest.mark.parametrize("augmentation", [0.0, 1.0])
def test_they_follow_from_seed_site_round_and_step(augmentation: float) -> None:
    job = config(augmentation)
    first = batch_of(job)
    assert first.inputs.shape == (3, 4, *SIZE)
    assert first.targets.shape == (3, *SIZE)
    assert (first.inputs.dtype, first.targets.dtype) == (torch.float32, torch.int64)
    assert type(first.inputs) is type(first.targets) is torch.Tensor
    assert torch.equal(first.inputs, batch_of(job).inputs)
    others = [
        batch_of(dataclasses.replace(job, seed=8)),
        batch_of(job, site="x"),
        batch_of(job, phase=1),
        batch_of(job, step=1),
    ]
    assert not any(torch.equal(first.inputs, other.inputs) for other in others)


def test_image_and_mask_are_cut_alike_and_every_place_may_come() -> None:
    volume = numbered((20, 9, 10))
    split = VolumeSplit([volume], [volume[0].to(torch.uint8)])
    seen = set()
    for seed in range(200):
        centre = patch_centre(split, 0, (16, 8, 8), False, generator(seed))
        patch, mask = cut_out(volume, centre, (16, 8, 8)), cut_out(split.labels[0], centre, (16, 8, 8))
        assert torch.equal(patch[0].to(torch.uint8), mask)
        seen.add(tuple(patch[:, 0, 0, 0].int().tolist()))
    assert seen == {(x, y, z) for x in range(1, 6) for y in (1, 2) for z in (1, 2, 3)}


def test_a_volume_smaller_than_a_patch_lies_in_its_middle_and_the_rest_is_empty() -> None:
    volume = numbered((5, 30, 3))
    split = VolumeSplit([volume], [torch.ones(5, 30, 3, dtype=torch.uint8)])
    for forced in (False, True):
        centre = patch_centre(split, 0, (8, 8, 8), forced, generator(1))
        patch, mask = cut_out(volume, centre, (8, 8, 8)), cut_out(split.labels[0], centre, (8, 8, 8))
        assert mask.sum() == 5 * 8 * 3
        assert (patch[:, mask == 0] == 0).all()
        assert torch.equal(patch[0].amax(dim=(1, 2)), torch.tensor([0.0, 1, 2, 3, 4, 5, 0, 0]))


def test_a_third_has_foreground_in_its_middle_and_each_class_as_often() -> None:
    labels = torch.zeros(64, 64, 64, dtype=torch.uint8)
    labels[40:44, 40:44, 40:44] = 1
    labels[10, 50, 30] = 2
    split = VolumeSplit([torch.zeros(1, 64, 64, 64)], [labels])
    middles = []
    for seed in range(60):
        centre = patch_centre(split, 0, (8, 8, 8), True, generator(seed))
        middles.append(int(cut_out(labels, centre, (8, 8, 8))[4, 4, 4]))
    assert set(middles) == {1, 2}
    assert 15 < middles.count(2) < 45
    job = config(batch_size=1)
    data = dataclasses.replace(load_site_data("north", "liver", job.data, 7, None), train=split)
    held = [bool(training_batch(job, "n", data, 0, step, [0]).targets.any()) for step in range(30)]
    assert all(held[2::3])
    assert sum(held) < 15


def test_forced_foreground_without_any_draws_as_otherwise() -> None:
    split = VolumeSplit([torch.zeros(1, 20, 20, 20)], [torch.zeros(20, 20, 20, dtype=torch.uint8)])
    centres = [patch_centre(split, 0, (8, 8, 8), forced, generator(3)) for forced in (True, False)]
    assert np.array_equal(*centres)


def test_a_warp_without_change_is_the_patch_itself_also_at_a_border() -> None:
    volume = numbered((12, 14, 10))
    for centre in (np.array([5.5, 6.5, 4.5]), np.array([3.5, 3.5, 3.5])):
        plain = cut_out(volume, centre, (8, 8, 8))
        same = warped(volume, centre, (8, 8, 8), np.eye(3), "bilinear")
        assert torch.allclose(same, plain, atol=1e-4)
        assert torch.equal(
            warped(plain[:1] > 4, np.full(3, 3.5), (8, 8, 8), np.eye(3), "nearest"), plain[:1] > 4
        )


def test_a_warp_turns_and_scales_about_the_middle_of_the_patch() -> None:
    volume, centre = numbered((30, 30, 30)), np.full(3, 14.5)
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned, plain = warped(volume, centre, (9, 9, 9), quarter, "bilinear"), cut_out(volume, centre, (9, 9, 9))
    assert torch.allclose(turned[0], plain[0].transpose(0, 1).flip(1), atol=0.51)
    double = warped(volume, centre, (9, 9, 9), 2 * np.eye(3), "bilinear")
    steps = double[0, 1:, 4, 4] - double[0, :-1, 4, 4]
    assert torch.allclose(steps, torch.full((8,), 2.0), atol=1e-3)


def test_a_flat_patch_is_turned_within_its_slices_alone() -> None:
    found = [drawn_warp((64, 64, 8), 1.0, generator(seed)) for seed in range(80)]
    warps = [matrix for matrix in found if matrix is not None]
    assert 15 < len(warps) < 45
    for matrix in warps:
        assert matrix[2].tolist() == [0, 0, 1]
        assert matrix[:, 2].tolist() == [0, 0, 1]
    solid = [
        matrix for seed in range(80) if (matrix := drawn_warp((32,) * 3, 1.0, generator(seed))) is not None
    ]
    assert any(abs(matrix[2, 0]) > 0.05 for matrix in solid)


def test_changes_of_intensity_leave_masks_where_they_are() -> None:
    labels = torch.zeros(16, 16, 16, dtype=torch.uint8)
    labels[4:8, 4:12, 6:9] = 1
    image = 3.0 * labels[None].repeat(2, 1, 1, 1).float() - 1
    different = 0
    for seed in range(40):
        changed, mask = Intensities(1.0, generator(seed))(image, labels)
        assert changed[:, mask == 1].mean() > changed[:, mask == 0].mean() + 1
        different += not torch.equal(changed, image)
    assert different > 35
    same, mask = Intensities(0.0, generator(0))(image, labels)
    assert torch.equal(same, image)
    assert torch.equal(mask, labels)


def test_volumes_of_one_class_are_taken_whole() -> None:
    job = config()
    batch = batch_of(job, "liver_lesion")
    assert batch.inputs.shape == (3, 1, 32, 32, 16)
    assert torch.equal(
        batch.inputs, load_site_data("north", "liver_lesion", job.data, 7, None).train.batch(range(3)).inputs
    )
    assert batch.targets.tolist() == [0, 1, 2]
    changed = batch_of(config(1.0), "liver_lesion")
    assert changed.targets.tolist() == [0, 1, 2]
    assert not torch.equal(changed.inputs, batch.inputs)


def test_the_middle_of_a_volume() -> None:
    volume = numbered((5, 4, 6)).numpy()
    assert centred(volume, (3, 4, 8))[0, :, 0, 3].tolist() == [2, 3, 4]
    padded = centred(volume, (3, 4, 8))
    assert padded[2, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 0]


def test_unlike_volumes_come_one_by_one() -> None:
    split = VolumeSplit(
        [torch.zeros(1, 4, 4, 4), torch.zeros(1, 5, 4, 4)], [torch.zeros(4, 4, 4), torch.zeros(5, 4, 4)]
    )
    assert not split.together
    assert split.batch([1]).inputs.shape == (1, 1, 5, 4, 4)
    with pytest.raises(RuntimeError):
        split.batch([0, 1])


def test_what_is_kept_of_a_site_is_never_changed() -> None:
    job = config(1.0)
    data = load_site_data("north", "brain", job.data, 7, None)
    before = [image.clone() for image in data.train.images], [labels.clone() for labels in data.train.labels]
    for step in range(12):
        training_batch(job, "north", data, 0, step, range(3))
    assert all(map(torch.equal, before[0], data.train.images))
    assert all(map(torch.equal, before[1], data.train.labels))
