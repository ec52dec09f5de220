import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mucald.methods.split.causal import proxies

GREY = np.zeros((200, 200, 3), np.uint8)


def ellipse_mask(
    a: float, b: float, degrees: float = 0.0, centre: tuple[float, float] = (99.6, 101.2)
) -> NDArray:
    y, x = np.mgrid[:200, :200] - np.array(centre)[:, None, None]
    angle = math.radians(degrees)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return ((u / a) ** 2 + (v / b) ** 2 <= 1).astype(np.uint8)


def rectangle(height: int, width: int) -> NDArray:
    mask = np.zeros((200, 200), np.uint8)
    mask[20 : 20 + height, 30 : 30 + width] = 1
    return mask


def l_shape() -> NDArray:
    mask = rectangle(40, 40)
    mask[20:40, 50:70] = 0
    return mask


@pytest.mark.parametrize("radius", [6, 10, 25, 80])
def test_disc(radius: int) -> None:
    disc = ellipse_mask(radius, radius)
    assert proxies.perimeter(GREY, disc) == pytest.approx(2 * math.pi * radius, rel=0.02)
    assert proxies.circularity(GREY, disc) == pytest.approx(1, abs=0.03)
    assert proxies.compactness(GREY, disc) == pytest.approx(1, abs=0.03)
    assert proxies.area(GREY, disc) == pytest.approx(math.pi * radius**2, rel=0.03)
    assert proxies.major_axis(GREY, disc) == pytest.approx(2 * radius, rel=0.02)
    assert proxies.asymmetry(GREY, disc) < 1.5 / radius
    assert 0.92 < proxies.solidity(GREY, disc) <= 1


@pytest.mark.parametrize("degrees", [0, 30, 75, 120])
def test_ellipse(degrees: float) -> None:
    a, b = 60, 30
    mask = ellipse_mask(a, b, degrees)
    ramanujan = math.pi * (3 * (a + b) - math.sqrt((3 * a + b) * (a + 3 * b)))
    assert proxies.perimeter(GREY, mask) == pytest.approx(ramanujan, rel=0.02)
    assert proxies.major_axis(GREY, mask) == pytest.approx(2 * a, rel=0.01)
    assert proxies.orientation(GREY, mask) == pytest.approx(math.cos(math.radians(2 * degrees)), abs=0.01)
    assert proxies.asymmetry(GREY, mask) < 0.06


def test_square_perimeter_is_five_percent_short() -> None:
    assert proxies.perimeter(GREY, rectangle(60, 60)) == pytest.approx(240, rel=0.06)


def test_rectangle_and_line_have_solidity_one() -> None:
    assert proxies.solidity(GREY, rectangle(17, 40)) == pytest.approx(1)
    assert proxies.solidity(GREY, rectangle(1, 9)) == pytest.approx(1)
    assert proxies.solidity(GREY, rectangle(1, 1)) == pytest.approx(1)


def test_major_axis_counts_pixels_as_squares() -> None:
    """A line of n pixels has the variance n² / 12 along itself, not that of n points."""
    assert proxies.major_axis(GREY, rectangle(1, 9)) == pytest.approx(4 * math.sqrt(81 / 12))
    assert proxies.major_axis(GREY, rectangle(1, 1)) == pytest.approx(4 * math.sqrt(1 / 12))


def test_solidity_of_an_l() -> None:
    # Three of four quadrants; the hull cuts the missing one in half.
    assert proxies.solidity(GREY, l_shape()) == pytest.approx(3 / 3.5)


def test_asymmetry_of_an_l() -> None:
    """Symmetric about one diagonal through its centroid; across the other, counted on a fine grid."""
    steps = np.arange(0.05, 40, 0.1)
    points = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)

    def inside(p: NDArray) -> NDArray:
        return ((p >= 0) & (p < 40)).all(axis=1) & ~((p[:, 0] > 20) & (p[:, 1] < 20))

    shape = points[inside(points)]
    centroid = shape.mean(axis=0)
    missed = [(~inside(centroid + sign * (shape - centroid)[:, ::-1])).mean() for sign in (1, -1)]
    assert min(missed) < 0.01
    assert proxies.asymmetry(GREY, l_shape()) == pytest.approx(2 * sum(missed), abs=0.08)


def test_asymmetry_ignores_rotation_of_the_object() -> None:
    straight, turned = l_shape(), np.rot90(l_shape()).copy()
    assert proxies.asymmetry(GREY, straight) == pytest.approx(proxies.asymmetry(GREY, turned), abs=0.02)


def test_asymmetry_has_no_uint8_wrap_around() -> None:
    """The published tables are 128 times too large, up to 512; the quantity cannot exceed 4."""
    scattered = (np.random.default_rng(0).random((200, 200)) < 0.05).astype(np.uint8)
    assert 2 < proxies.asymmetry(GREY, scattered) <= 4


def test_orientation_is_continuous_at_180_degrees() -> None:
    before, after = (proxies.orientation(GREY, ellipse_mask(60, 20, angle)) for angle in (179, 1))
    assert before == pytest.approx(after, abs=0.01)


def test_orientation_of_a_square_is_undefined() -> None:
    assert math.isnan(proxies.orientation(GREY, rectangle(20, 20)))


def test_shape_terms_take_the_largest_component_without_holes() -> None:
    plain = rectangle(40, 60)
    marked = plain.copy()
    marked[30:35, 40:45] = 0
    marked[100:110, 100:110] = 1
    for proxy in (
        proxies.perimeter,
        proxies.compactness,
        proxies.solidity,
        proxies.orientation,
        proxies.major_axis,
    ):
        assert proxy(GREY, marked) == proxy(GREY, plain)
    assert proxies.area(GREY, marked) == 40 * 60 - 25 + 100


def test_mean_rgb_is_not_rounded_and_looks_inside_only() -> None:
    image = GREY.copy()
    image[20:22, 30:31] = [[[250, 251, 255]], [[250, 252, 252]]]
    assert proxies.mean_rgb(image, rectangle(2, 1)) == pytest.approx((250 + 251 + 255 + 250 + 252 + 252) / 6)


def test_label_selects_the_class() -> None:
    mask = rectangle(10, 10)
    mask[100:105, 100:108] = 2
    assert (proxies.area(GREY, mask), proxies.area(GREY, mask, label=2)) == (100, 40)


def test_thickness_spread() -> None:
    """An even ring has hardly any; with its inner circle shifted by d, the thickness is w + d cos φ."""
    outer = ellipse_mask(80, 80)
    even = outer - ellipse_mask(60, 60)
    shifted = outer - ellipse_mask(60, 60, centre=(99.6, 109.2))
    assert proxies.thickness_spread(GREY, even) < 0.8
    assert proxies.thickness_spread(GREY, shifted) == pytest.approx(8 / math.sqrt(2), rel=0.15)


def test_bubble_area_counts_what_stands_out() -> None:
    image = np.clip(np.random.default_rng(0).normal(120, 4, (200, 200)), 0, 255)
    image = np.repeat(image[..., None], 3, axis=-1).astype(np.uint8)
    mask = rectangle(100, 100)
    quiet = proxies.bubble_area(image, mask)
    image[40:60, 50:60], image[80:85, 50:60] = 220, 20
    assert quiet < 60
    assert proxies.bubble_area(image, mask) == pytest.approx(200 + 50 + quiet, abs=20)


def test_bubble_area_of_a_flat_image_is_zero() -> None:
    assert proxies.bubble_area(GREY, rectangle(10, 10)) == 0
