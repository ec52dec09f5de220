"""Every mask is read to the right class, in one way for its whole set, or refused with its name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import save_nifti, save_png
from numpy.typing import NDArray
from PIL import Image

from mucald.data.images.masks import ClassIds
from mucald.data.images.stored import read_stored
from mucald.data.site_file import SiteFile
from mucald.errors import DataError
from mucald.tasks import TASKS

BINARY, THREE = TASKS["kvasir"], TASKS["fetal"]
AREA = np.zeros((24, 32), np.uint8)
AREA[6:16, 8:22] = 1
CLASSES = AREA.copy()
CLASSES[8:12, 10:18] = 2


def read(ids: ClassIds, path: Path) -> NDArray[np.uint8]:
    return ids.of(path, read_stored(path))[0][0]


def save(path: Path, array: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def palette(colours: list[tuple[int, int, int]]) -> bytes:
    return bytes(value for colour in colours for value in colour)


def palette_mask(folder: Path, numbers: NDArray[np.uint8], colours: list[tuple[int, int, int]]) -> Path:
    return save_png(folder / "m.png", numbers, 8, 3, PLTE=palette(colours))


GREY = [(value, value, value) for value in range(256)]


@pytest.mark.parametrize("levels", [(0, 1), (0, 255)])
@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp"])
def test_binary_masks_in_every_lossless_format(ending, levels, tmp_path):
    options = {"lossless": True} if ending == "webp" else {}
    path = save(tmp_path / f"m.{ending}", np.array(levels, np.uint8)[AREA], **options)
    assert np.array_equal(read(ClassIds(BINARY, {}), path), AREA)


def test_what_the_first_mask_tells_holds_for_the_set(tmp_path):
    """A mask that another guess leaves empty, or full of the wrong class, is a fault."""
    ones, many = save(tmp_path / "a.png", AREA), save(tmp_path / "b.png", AREA * 255)
    empty = save(tmp_path / "c.png", AREA * 0)
    for first, second, told in ((ones, many, "255"), (many, ones, "1")):
        ids = ClassIds(BINARY, {})
        assert read(ids, empty).sum() == 0
        assert read(ids, first).sum() == AREA.sum()
        with pytest.raises(
            DataError, match=rf"{second.name}: the mask holds 0 and {told}, but .*{first.name}"
        ):
            read(ids, second)
        assert read(ids, empty).sum() == 0
    named = ClassIds(BINARY, {255: 1})
    assert all(np.array_equal(read(named, path), AREA) for path in (ones, many))


def test_a_stray_value_is_named_whatever_is_guessed(tmp_path):
    stray = AREA * 255
    stray[0, 0] = 1
    with pytest.raises(DataError, match="holds both 1 and 255; tell the class of 255"):
        read(ClassIds(BINARY, {}), save(tmp_path / "m.png", stray))


@pytest.mark.parametrize("quality", [30, 60, 95])
@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_lossy_masks_of_black_and_white_keep_their_area(ending, quality, tmp_path):
    path = save(tmp_path / f"m.{ending}", AREA * 255, quality=quality)
    read_area = read(ClassIds(BINARY, {}), path)
    assert (read_area != AREA).sum() <= (0 if ending == "jpg" else 12)
    colour = Image.fromarray(AREA * 255).convert("RGB")
    colour.save(tmp_path / "c.jpg", quality=quality)
    assert np.array_equal(read(ClassIds(BINARY, {}), tmp_path / "c.jpg"), AREA)


@pytest.mark.parametrize(
    ("array", "task", "value_map", "words"),
    [
        (AREA, BINARY, {}, "values up to [12] in a lossy format, which are near none of 255"),
        (CLASSES, THREE, {}, "blurs values as close as 0, 1, 2"),
        (CLASSES * 10, THREE, {10: 1, 20: 2}, "blurs values as close as 0, 10, 20"),
        (np.arange(768, dtype=np.int64).reshape(24, 32) % 256, BINARY, {}, "lossy compression has blurred"),
    ],
)
def test_lossy_masks_that_tell_no_class_are_refused(array, task, value_map, words, tmp_path):
    path = save(tmp_path / "m.jpg", array.astype(np.uint8), quality=90)
    with pytest.raises(DataError, match=f"m.jpg: .*{words}"):
        read(ClassIds(task, value_map), path)


@pytest.mark.parametrize("quality", [75, 95])
@pytest.mark.parametrize("value", [70, 100, 150, 180])
@pytest.mark.parametrize("place", [(0, 0), (10, 20)], ids=["apart", "at the edge of another"])
def test_an_area_of_another_value_is_not_taken_for_blur(value, place, quality, tmp_path):
    """Compression leaves values between two classes at edges alone."""
    array, (row, column) = AREA * 255, place
    array[row : row + 6, column : column + 8] = value
    with pytest.raises(DataError, match=r"m.jpg: the mask holds an area of about \d+ in .* none of 0, 255"):
        read(ClassIds(BINARY, {}), save(tmp_path / "m.jpg", array, quality=quality))
    with pytest.raises(DataError, match=rf"the mask holds the value {value}, but"):
        read(ClassIds(BINARY, {}), save(tmp_path / "m.png", array))


@pytest.mark.parametrize("quality", [30, 75])
@pytest.mark.parametrize("ending", ["jpg", "webp"])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_edges_that_compression_and_enlarging_blur_are_read(scale, ending, quality, tmp_path):
    down, across = np.mgrid[:96, :128]
    disk = ((down - 40) ** 2 + (across - 60) ** 2 < 900) | ((down - 80) ** 2 + (across - 20) ** 2 < 16)
    large = Image.fromarray(disk.astype(np.uint8) * 255).resize((128 * scale, 96 * scale), Image.BILINEAR)
    large.save(tmp_path / f"m.{ending}", quality=quality)
    labels = read(ClassIds(BINARY, {}), tmp_path / f"m.{ending}")
    assert np.abs(labels - (np.asarray(large) > 127).astype(int)).sum() <= 0.02 * labels.sum()


def test_a_lossy_mask_of_three_values_far_apart_is_read_where_no_pixel_is_between(tmp_path):
    path = save(tmp_path / "m.jpg", CLASSES * 127, quality=95)
    ids = ClassIds(THREE, {127: 1, 254: 2})
    assert np.array_equal(read(ids, path), CLASSES)
    with pytest.raises(DataError, match="blurred"):
        read(ids, save(tmp_path / "b.jpg", CLASSES * 127, quality=10))


def test_an_empty_lossy_mask_is_empty_unless_the_others_hold_ids(tmp_path):
    empty = save(tmp_path / "empty.jpg", AREA * 0)
    many, ones = save(tmp_path / "b.png", AREA * 255), save(tmp_path / "a.png", AREA)
    for first in (empty, many):
        ids = ClassIds(BINARY, {})
        read(ids, first)
        assert read(ids, empty).sum() == 0
        assert np.array_equal(read(ids, many), AREA)
    for order in ((empty, ones), (ones, empty)):
        ids = ClassIds(BINARY, {})
        read(ids, order[0])
        with pytest.raises(DataError, match=r"empty.jpg: the masks of its set hold 0 and 1"):
            read(ids, order[1])


@pytest.mark.parametrize(
    ("colours", "indices", "expected"),
    [
        (GREY, CLASSES, CLASSES),
        ([(0, 0, 0), (128, 0, 0), (0, 128, 0)], CLASSES, CLASSES),
        ([(0, 0, 0), (127, 127, 127), (255, 255, 255)], CLASSES, CLASSES),
        ([(9, 9, 9), (128, 0, 0), (0, 128, 0)], CLASSES, CLASSES),
        ([(2, 2, 2), (0, 0, 0), (1, 1, 1)], np.array([1, 2, 0], np.uint8)[CLASSES], CLASSES),
    ],
)
def test_palettes_in_any_order(colours, indices, expected, tmp_path):
    path = save_png(tmp_path / "m.png", indices, 8, 3, PLTE=palette(colours))
    assert np.array_equal(read(ClassIds(THREE, {}), path), expected)


def test_a_binary_palette_is_read_by_what_it_shows(tmp_path):
    for colours, indices in (([GREY[0], GREY[255]], AREA), ([GREY[255], GREY[0]], 1 - AREA)):
        path = save_png(tmp_path / "m.png", indices, 1, 3, PLTE=palette(colours))
        assert np.array_equal(read(ClassIds(BINARY, {}), path), AREA)


@pytest.mark.parametrize(
    ("colours", "value_map", "words"),
    [
        ([(255, 0, 0), (0, 0, 0), (0, 128, 0)], {}, "colours in an order of its own"),
        ([GREY[0], GREY[2], GREY[1]], {}, "both the greys that it shows and its numbers may be class ids"),
    ],
)
def test_palettes_of_two_meanings_are_refused(colours, value_map, words, tmp_path):
    path = save_png(tmp_path / "m.png", CLASSES, 8, 3, PLTE=palette(colours))
    with pytest.raises(DataError, match=words):
        read(ClassIds(THREE, value_map), path)


OWN_ORDER = {
    "white lesion": [(255, 255, 255), (1, 1, 1)],
    "red and white": [(255, 0, 0), (255, 255, 255)],
    "green and dark grey": [(0, 255, 0), (16, 16, 16)],
    "white and grey": [(255, 255, 255), (128, 128, 128)],
}


@pytest.mark.parametrize("name", OWN_ORDER)
@pytest.mark.parametrize("numbers", [AREA, 1 - AREA], ids=["area", "rest"])
def test_number_0_is_background_only_where_it_shows_black(name, numbers, tmp_path):
    path = palette_mask(tmp_path, numbers, OWN_ORDER[name])
    with pytest.raises(DataError, match=r"m.png: .*(order of its own|mask holds)"):
        read(ClassIds(BINARY, {}), path)
    for told in ({0: 0, 1: 1}, {0: 1, 1: 0}):
        assert np.array_equal(read(ClassIds(BINARY, told), path), np.array([told[0], told[1]])[numbers])


@pytest.mark.parametrize("number", [0, 1])
def test_a_mask_of_one_coloured_number_is_not_empty_by_its_number_alone(number, tmp_path):
    white_first = palette_mask(tmp_path, AREA * 0 + np.uint8(number), [(255, 255, 255), (1, 1, 1)])
    if number:
        with pytest.raises(DataError, match="number 1, which its palette shows as black"):
            read(ClassIds(BINARY, {}), white_first)
        assert read(ClassIds(BINARY, {0: 1, 1: 0}), white_first).sum() == 0
    for colours in ([(255, 0, 0), (255, 255, 255)], [(0, 255, 0), (16, 16, 20)]):
        path = palette_mask(tmp_path, AREA * 0 + np.uint8(number), colours)
        if number and colours[0][0]:
            assert read(ClassIds(BINARY, {}), path).all(), "it shows white alone"
            continue
        with pytest.raises(DataError, match="an order of its own"):
            read(ClassIds(BINARY, {}), path)


BLACK = [(0, 0, 0)] * 256
VOC = [*BLACK[:1], (128, 0, 0), *BLACK[2:255], (224, 224, 192)]


def test_a_palette_that_shows_classes_in_one_colour_is_read_by_its_numbers(tmp_path):
    """A viewer shows such a mask black; as greys it would be empty beside masks that are not."""
    for colours in (BLACK, [GREY[9]] * 3):
        ids = ClassIds(BINARY, {})
        assert np.array_equal(read(ids, palette_mask(tmp_path, AREA, colours)), AREA)
        assert read(ids, palette_mask(tmp_path, AREA * 0 + 1, colours)).all()
        assert np.array_equal(read(ClassIds(THREE, {}), palette_mask(tmp_path, CLASSES, colours)), CLASSES)
    with pytest.raises(DataError, match="the mask holds the value 2, but task kvasir"):
        read(ClassIds(BINARY, {}), palette_mask(tmp_path, CLASSES, [*BLACK[:2], GREY[255]]))


@pytest.mark.parametrize("value_map", [{}, {255: 1}])
def test_a_mask_of_one_number_that_shows_black_is_empty_or_full(value_map, tmp_path):
    with pytest.raises(DataError, match="has the number 1, which its palette shows as black"):
        read(ClassIds(BINARY, value_map), palette_mask(tmp_path, AREA * 0 + 1, [GREY[255], GREY[0]]))


def test_void_of_a_palette_is_no_class_unless_it_is_named(tmp_path):
    numbers = AREA.copy()
    numbers[5, 8:22] = 255
    path = palette_mask(tmp_path, numbers, VOC)
    with pytest.raises(DataError, match=r"m.png: the mask holds both 1 and 255; tell the class of 255"):
        read(ClassIds(BINARY, {}), path)
    assert np.array_equal(read(ClassIds(BINARY, {255: 0}), path), AREA)
    assert read(ClassIds(BINARY, {255: 1}), path).sum() == AREA.sum() + 14


@pytest.mark.parametrize("colours", [VOC, BLACK, GREY], ids=["VOC", "black", "grey"])
def test_palettes_hold_0_and_1_or_0_and_255_as_all_masks_of_a_set(colours, tmp_path):
    for one, other in ((1, 255), (255, 1)):
        ids, plain = ClassIds(BINARY, {}), save(tmp_path / "plain.png", AREA * np.uint8(one))
        assert np.array_equal(read(ids, plain), AREA)
        assert np.array_equal(read(ids, palette_mask(tmp_path, AREA * np.uint8(one), colours)), AREA)
        with pytest.raises(DataError, match=rf"m.png: the mask holds 0 and {other}, but .*plain.png holds"):
            read(ids, palette_mask(tmp_path, AREA * np.uint8(other), colours))
        ids = ClassIds(BINARY, {})
        read(ids, palette_mask(tmp_path, AREA * np.uint8(other), colours))
        with pytest.raises(DataError, match=rf"plain.png: the mask holds 0 and {one}, but"):
            read(ids, plain)


def test_a_palette_of_black_and_white_may_lie_beside_either(tmp_path):
    for one in (1, 255):
        ids = ClassIds(BINARY, {})
        for _ in range(2):
            assert np.array_equal(read(ids, palette_mask(tmp_path, AREA, [GREY[0], GREY[255]])), AREA)
            assert np.array_equal(read(ids, save(tmp_path / "plain.png", AREA * np.uint8(one))), AREA)


def test_a_lossy_mask_is_never_left_empty_by_the_nearest_value(tmp_path):
    path = save(tmp_path / "m.jpg", AREA, quality=95)
    with pytest.raises(DataError, match="values up to 1 in a lossy format, which are near none of 255"):
        read(ClassIds(BINARY, {255: 1}), path)
    assert read(ClassIds(BINARY, {255: 1}), save(tmp_path / "e.jpg", AREA * 0)).sum() == 0


def test_named_values_decide_what_a_palette_means(tmp_path):
    path = save_png(tmp_path / "m.png", AREA, 1, 0)
    assert np.array_equal(read(ClassIds(THREE, {255: 2}), path), AREA * 2)
    assert np.array_equal(read(ClassIds(THREE, {}), path), AREA)


@pytest.mark.parametrize("depth", [2, 4])
def test_few_bits_are_class_ids(depth, tmp_path):
    path = save_png(tmp_path / "m.png", CLASSES, depth, 0)
    assert np.array_equal(read(ClassIds(THREE, {}), path), CLASSES)


def test_one_bit_masks_may_lie_beside_others(tmp_path):
    ids = ClassIds(BINARY, {})
    for path in (save_png(tmp_path / "a.png", AREA, 1, 0), save(tmp_path / "b.png", AREA * 255)):
        assert np.array_equal(read(ids, path), AREA)


def test_sixteen_bits_hold_ids_too(tmp_path):
    path = save(tmp_path / "m.png", CLASSES.astype(np.uint16))
    assert np.array_equal(read(ClassIds(THREE, {}), path), CLASSES)


def test_a_mask_in_the_alpha_channel_is_refused(tmp_path):
    rgba = np.stack([AREA * 0, AREA * 0, AREA * 0, AREA * 255], axis=-1)
    with pytest.raises(DataError, match=r"m.png: has an alpha channel that is not opaque"):
        read(ClassIds(BINARY, {}), save(tmp_path / "m.png", rgba))


@pytest.mark.parametrize("slope", [1 / 255, 1 / 254, 0.5])
def test_scaled_volumes_hold_whole_numbers_up_to_rounding(slope, tmp_path):
    stored = np.rint(CLASSES / slope).astype(np.uint16)
    path = save_nifti(tmp_path / "m.nii", stored, scl_slope=slope, scl_inter=0)
    assert np.array_equal(read(ClassIds(THREE, {}), path), CLASSES)
    assert slope == 0.5 or not np.array_equal(read_stored(path).values[0], CLASSES)


@pytest.mark.parametrize(
    ("array", "slope", "inter"),
    [
        (CLASSES, 0.0005, 0),
        (CLASSES, 0.0005, 1),
        (CLASSES, -0.0005, 1),
        (CLASSES, 0.0001, 0),
        (AREA * 20, 0.00005, 0),
        (AREA * 0 + 1, 0.0005, 0),
    ],
)
def test_a_scale_that_makes_one_number_of_several_is_refused(array, slope, inter, tmp_path):
    """One such mask among others would be empty without a word."""
    path = save_nifti(tmp_path / "m.nii", array, scl_slope=slope, scl_inter=inter)
    with pytest.raises(DataError, match=r"m.nii: the mask holds fractions"):
        read(ClassIds(THREE, {}), path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.3, "holds fractions"),
        (1.002, "holds fractions"),
        (np.nan, "holds NaN or infinity"),
        (np.inf, "holds NaN or infinity"),
        (1e30, "holds fractions"),
        (-1, "holds the value -1"),
    ],
)
def test_numbers_that_are_no_ids_are_named(value, words, tmp_path):
    array = CLASSES.astype(np.float32)
    array[3, 3] = value
    with pytest.raises(DataError, match=f"m.nii: the mask {words}"):
        read(ClassIds(THREE, {}), save_nifti(tmp_path / "m.nii", array))


def test_a_value_below_zero_may_be_named(tmp_path):
    path = save_nifti(tmp_path / "m.nii", CLASSES.astype(np.int16) - 1)
    named = SiteFile(task="fetal", root=".", layout="pairs", mask_values={"-1": 0, "0": 1, "1": 2}).value_map
    assert np.array_equal(read(ClassIds(THREE, named), path), CLASSES)
