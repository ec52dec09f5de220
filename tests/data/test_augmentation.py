import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_job import site_data, tiny_config

from mucald import randomness
from mucald.data.augmentation import orientations, training_batch
from mucald.data.images.augmentation import changed
from mucald.tasks import TASKS, get_task
from mucald.tasks.augmentation import NONE, Augmentation

AUGMENTED = tiny_config(training={"augmentation": 1.0})
SIDE = 64
BOUNDS = {
    field.name: 0.2
    for field in dataclasses.fields(Augmentation)
    if field.type is float or field.type == "float"
}
INTENSITIES = ("brightness", "contrast", "gamma", "noise", "low_resolution")


def disc(count: int, right: float = 0.0, radius: float = 0.4) -> torch.Tensor:
    """Return masks (B, S, S) of a disc, ``right`` of the centre, in units of half a side."""
    line = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    inside = (line[:, None] ** 2 + (line[None] - right) ** 2) < radius**2
    return inside.long().expand(count, SIDE, SIDE).contiguous()


def images_of(masks: torch.Tensor) -> torch.Tensor:
    return (0.2 + 0.6 * masks[:, None].float()).expand(-1, 3, -1, -1).contiguous()


def change(how: Augmentation, masks: torch.Tensor, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return changed(images_of(masks), masks, how, 1.0, randomness.generator(seed, "test"))


def centre(masks: torch.Tensor) -> torch.Tensor:
    """Return the centroids (B, 2), down and right, in units of half a side."""
    line = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    area = masks.sum(dim=(1, 2))
    down, right = ((masks * axis).sum(dim=(1, 2)) / area for axis in (line[:, None], line[None]))
    return torch.stack([down, right], dim=1)


def test_a_job_without_augmentation_trains_on_the_images_as_they_are():
    config = tiny_config()
    data = site_data(config, "north")
    found, expected = training_batch(config, "north", data, 0, 0, [2, 0]), data.train.batch([2, 0])
    assert torch.equal(found.inputs, expected.inputs)
    assert torch.equal(found.targets, expected.targets)


def test_changes_are_keyed_by_seed_site_round_and_step_and_by_nothing_else():
    data = site_data(AUGMENTED, "north")

    def inputs(config=AUGMENTED, site="north", phase=1, step=2) -> torch.Tensor:
        return training_batch(config, site, data, phase, step, range(4)).inputs

    first = inputs()
    others = (
        inputs(dataclasses.replace(AUGMENTED, seed=8)),
        inputs(site="x"),
        inputs(phase=2),
        inputs(step=3),
    )
    assert not any(torch.equal(first, other) for other in others)
    assert torch.equal(first, inputs())
    batch = training_batch(AUGMENTED, "north", data, 1, 2, range(4))
    assert type(batch.inputs) is torch.Tensor
    assert (batch.inputs.dtype, batch.targets.dtype) == (torch.float32, torch.int64)
    assert 0 <= batch.inputs.min() < batch.inputs.max() <= 1
    assert torch.equal(batch.measures, data.train.batch(range(4)).measures)


@pytest.mark.parametrize("task", [t for t in TASKS.values() if t.input == "image"], ids=lambda t: t.name)
def test_an_image_and_its_mask_change_together(task):
    masks = disc(64, right=0.3)
    config = dataclasses.replace(
        AUGMENTED, training=dataclasses.replace(AUGMENTED.training, augmentation=1.0)
    )
    turned = orientations(config, "x", task, 0, 0, len(masks))
    geometric = dataclasses.replace(task.augmentation, **dict.fromkeys(INTENSITIES, 0))
    images, found = turned.of(images_of(masks)), turned.of(masks)
    images, found = changed(images, found, geometric, 1.0, randomness.generator(0))
    assert not torch.equal(found, masks)
    # Interpolation differs from the nearest pixel along the border alone.
    assert ((images[:, 0] > 0.5) != (found == 1)).float().mean() < 0.01
    assert set(found.unique().tolist()) == {0, 1}


def test_a_latent_and_a_mask_are_turned_as_the_image_they_come_from():
    images = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    turned = orientations(AUGMENTED, "north", get_task("kvasir"), 0, 0, 32)
    latents = F.avg_pool2d(images, 2)
    assert torch.allclose(turned.of(latents), F.avg_pool2d(turned.of(images), 2))
    assert torch.equal(turned.of(images[:, 0]), turned.of(images)[:, 0])
    assert torch.equal(turned.undone(turned.of(latents)), latents)
    ways = list(
        zip(*(way.tolist() for way in (turned.transposed, turned.upside_down, turned.mirrored)), strict=True)
    )
    assert len(set(ways)) == 8
    quarter = ways.index((True, True, False))
    assert torch.equal(turned.of(images)[quarter], torch.rot90(images[quarter], 1, (-2, -1)))


@pytest.mark.parametrize("task", [t for t in TASKS.values() if t.input == "image"], ids=lambda t: t.name)
def test_an_image_with_an_upper_side_stays_upright(task):
    turned = orientations(AUGMENTED, "x", task, 0, 0, 400)
    for drawn, allowed in (
        (turned.mirrored, task.augmentation.mirrored),
        (turned.upside_down, task.augmentation.any_way_up),
        (turned.transposed, task.augmentation.any_way_up),
    ):
        assert abs(drawn.float().mean() - 0.5 * allowed) < 0.1 * allowed + 1e-9


def test_half_the_odds_change_half_as_many():
    half = tiny_config(training={"augmentation": 0.5})
    mirrored = orientations(half, "x", get_task("fetal"), 0, 0, 1000).mirrored.float().mean()
    assert mirrored == pytest.approx(0.25, abs=0.04)
    masks = disc(1000, right=0.3)
    how = Augmentation(shift=0.2)
    moved = changed(images_of(masks), masks, how, 0.5, randomness.generator(1))[1]
    assert (moved != masks).any(dim=2).any(dim=1).float().mean() == pytest.approx(0.25, abs=0.04)


def test_without_bounds_nothing_changes():
    masks = disc(16)
    images, found = change(NONE, masks)
    assert torch.equal(images, images_of(masks))
    assert torch.equal(found, masks)


@pytest.mark.parametrize("name", BOUNDS)
def test_each_bound_alone_changes_something(name):
    masks = disc(32, right=0.3)
    images, found = change(dataclasses.replace(NONE, **{name: 30 if name == "angle" else 0.3}), masks)
    assert not torch.equal(images, images_of(masks))
    assert torch.equal(found, masks) is (name in INTENSITIES)


def test_a_shift_a_scale_and_an_angle_keep_their_bounds():
    masks = disc(200, right=0.4, radius=0.3)
    shifted = (centre(change(Augmentation(shift=0.1), masks)[1]) - centre(masks)).abs()
    assert 0.15 < shifted.max() <= 0.2 + 0.02
    assert shifted.max(dim=0).values.min() > 0.15, "along both axes"
    scaled = change(Augmentation(scale=0.25), disc(200))[1].sum(dim=(1, 2)) / disc(1).sum()
    assert 1.25**-2 - 0.03 < scaled.min() < 0.8
    assert 1.4 < scaled.max() < 1.25**2 + 0.03
    down, right = centre(change(Augmentation(angle=30), masks)[1]).T
    angles = torch.rad2deg(torch.atan2(down, right))
    assert -31 < angles.min() < -24
    assert 24 < angles.max() < 31
    assert torch.hypot(down, right) == pytest.approx(torch.full((200,), 0.4), abs=0.02)


def test_brightness_contrast_gamma_and_noise_do_what_they_are_called():
    masks = disc(200)
    before = images_of(masks)
    ratio = (change(Augmentation(brightness=0.2), masks)[0] / before).flatten(1)
    assert torch.allclose(ratio.amin(dim=1), ratio.amax(dim=1), atol=1e-5)
    assert 0.8 <= ratio.min() < 0.85
    stretched = change(Augmentation(contrast=0.2), masks)[0]
    assert stretched.mean(dim=(1, 2, 3)) == pytest.approx(before.mean(dim=(1, 2, 3)), abs=1e-4)
    spread = stretched.std(dim=(1, 2, 3)) / before.std(dim=(1, 2, 3))
    assert 0.8 - 1e-4 <= spread.min() < 0.85
    noise = (change(Augmentation(noise=0.05), masks)[0] - before).std(dim=(1, 2, 3))
    assert 0.03 < noise.max() < 0.055
    assert (noise == 0).float().mean() == pytest.approx(0.8, abs=0.08)
    ramp = torch.linspace(0, 1, SIDE).expand(64, 3, SIDE, SIDE).contiguous()
    curved = changed(ramp, masks[:64], Augmentation(gamma=0.3), 1.0, randomness.generator(2))[0]
    exponents = torch.log(curved[:, 0, 0, SIDE // 2]) / torch.log(ramp[:, 0, 0, SIDE // 2])
    assert 0.7 - 1e-3 <= exponents.min() < 0.9
    assert 1.1 < exponents.max() <= 1.3 + 1e-3


def test_nothing_depends_on_the_global_generators():
    np.random.seed(0)
    first = change(get_task("kvasir").augmentation, disc(8))[0]
    np.random.seed(1)
    assert torch.equal(first, change(get_task("kvasir").augmentation, disc(8))[0])
