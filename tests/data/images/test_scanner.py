"""Devices that show the same scene in their own way."""

import numpy as np
import pytest

from mucald.data.images.phantoms import PHANTOMS
from mucald.data.images.phantoms.scanner import SCANNERS, STANDARD, Scanner
from mucald.randomness import generator

SIZE = 48


def scene(index=0):
    return PHANTOMS["kvasir"](generator("scanner", index), SIZE)


def taken(scanner, index=0):
    return scanner.take(*scene(index), generator("noise", index))


def test_the_standard_device_changes_nothing():
    assert SCANNERS["standard"] == STANDARD == Scanner()
    for found, drawn in zip(taken(STANDARD), scene(), strict=True):
        assert found is drawn or np.array_equal(found, drawn)


@pytest.mark.parametrize("name", sorted(set(SCANNERS) - {"standard"}))
def test_every_other_device_shows_another_image_of_the_same_classes(name):
    image, mask = taken(SCANNERS[name])
    assert (image.shape, mask.shape) == ((SIZE, SIZE, 3), (SIZE, SIZE))
    assert image.dtype == mask.dtype == np.uint8
    assert np.unique(mask).tolist() == [0, 1]
    assert np.abs(image.astype(float) - scene()[0]).mean() > 3
    assert np.array_equal(image, taken(SCANNERS[name])[0])


def test_contrast_brightness_and_colour_by_hand():
    image, mask = np.full((4, 4, 3), 100, np.uint8), np.zeros((4, 4), np.uint8)
    scanner = Scanner(contrast=0.5, brightness=10, colour=(1.0, 2.0, 0.5))
    found, _ = scanner.take(image, mask, generator("x"))
    assert (found == np.rint((0.5 * (100 - 127.5) + 137.5) * np.array([1, 2, 0.5]))).all()


def test_noise_has_its_strength_and_low_resolution_blurs():
    image, mask = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64), np.uint8)
    noisy, _ = Scanner(noise=9.0).take(image, mask, generator("x"))
    assert noisy.std() == pytest.approx(9, rel=0.05)
    edge = image.copy()
    edge[:, 32:] = 255
    blurred, _ = Scanner(resolution=0.25).take(edge, mask, generator("x"))
    assert len(np.unique(blurred)) > 4


def test_zoom_enlarges_image_and_mask_alike():
    _, mask = scene()
    image = np.repeat(mask[..., None] * np.uint8(255), 3, axis=-1)
    shown, outlines = Scanner(zoom=1.5).take(image, mask, generator("x"))
    assert outlines.sum() > 1.3 * mask.sum()
    assert ((shown[..., 0] > 127) == (outlines == 1)).mean() > 0.97
