import gzip
from pathlib import Path

import numpy as np
import pytest
from image_files import save_nifti, write_pair
from numpy.typing import NDArray
from PIL import Image

from mucald.data.images import readers
from mucald.data.images.masks import ClassIds
from mucald.data.images.stored import read_stored
from mucald.data.records.layouts import Record
from mucald.errors import DataError
from mucald.tasks import TASKS, Task

BINARY, THREE = TASKS["kvasir"], TASKS["wbc"]


def read_image(paths: tuple[Path, ...]) -> NDArray:
    return readers.read_image(paths).pixels


def read_mask(path: Path, task: Task, value_map: dict[int, int], fill: bool = False) -> NDArray:
    return ClassIds(task, value_map).of(path, read_stored(path), fill)[0]


def save_mask(path: Path, *values: int, mode: str = "L") -> Path:
    array = np.zeros((8, 9), np.uint8)
    array[2:6, 3 : 3 + len(values)] = values
    picture = Image.fromarray(array)
    if mode == "P":
        picture.putpalette([7 * i % 256 for i in range(768)])
    elif mode != "L":
        picture = picture.convert(mode)
    picture.save(path)
    return path


@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
def test_lossless_pictures_are_read_unchanged(tmp_path: Path, ending: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}")
    assert np.array_equal(read_image((tmp_path / f"a.{ending}",)), pixels[None])


def test_grey_jpeg_becomes_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 7), 93, np.uint8)).save(tmp_path / "a.jpg")
    image = read_image((tmp_path / "a.jpg",))
    assert image.shape == (1, 6, 7, 3)
    assert (image == 93).all()


def test_sixteen_bits_are_windowed_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(1000, 3000, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    image = read_image((tmp_path / "a.png",))[0, ..., 0].astype(float)
    expected = np.clip((ramp - 1010.0) / 1980 * 255, 0, 255)
    assert np.abs(image - expected).max() < 1


def test_nifti_slices_share_one_window(tmp_path: Path) -> None:
    volume = np.zeros((20, 10, 3), np.int16)
    volume[..., 0], volume[..., 1], volume[..., 2] = -1000, 0, 1000
    image = read_image((save_nifti(tmp_path / "v.nii.gz", volume),))
    assert image.shape == (3, 20, 10, 3)
    assert [int(layer.max()) for layer in image] == [0, 128, 255]


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 1, 1)])
def test_flat_nifti_is_one_slice_with_rows_first(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = read_image((save_nifti(tmp_path / "v.nii", np.arange(30, dtype=np.float32).reshape(shape)),))
    assert image.shape == (1, 6, 5, 3)
    assert image[0, 0, 0, 0] == 0
    assert image[0, 5, 4, 0] == 255


def test_constant_volume_is_black(tmp_path: Path) -> None:
    assert not read_image((save_nifti(tmp_path / "v.nii", np.full((4, 4, 2), 7, np.int16)),)).any()


def test_volume_constant_up_to_a_few_voxels_keeps_them(tmp_path: Path) -> None:
    volume = np.zeros((40, 40), np.int16)
    volume[3, 4:6] = 1000
    image = read_image((save_nifti(tmp_path / "v.nii", volume),))
    assert image[0, 3, 4:6].min() == 255
    assert (image > 0).sum() == 6


def test_channels_become_red_green_blue(tmp_path: Path) -> None:
    ramp = np.arange(64, dtype=np.int16).reshape(8, 8)
    paths = tuple(save_nifti(tmp_path / f"c_{i}.nii", a) for i, a in enumerate((ramp, ramp.T.copy())))
    image = read_image(paths)[0]
    assert np.array_equal(image[..., 0], image[..., 1].T)
    assert image[..., 0].any()
    assert not image[..., 2].any()


def test_of_more_than_three_channels_the_first_three_count(tmp_path: Path) -> None:
    channels = [np.roll(np.arange(64, dtype=np.int16), i).reshape(8, 8) for i in range(4)]
    paths = tuple(save_nifti(tmp_path / f"c_{i}.nii", channel) for i, channel in enumerate(channels))
    assert np.array_equal(read_image(paths), read_image(paths[:3]))
    assert not np.array_equal(read_image(paths), read_image(paths[1:]))


def test_a_colour_picture_is_no_channel_unless_it_is_grey(tmp_path: Path) -> None:
    ramp = np.arange(0, 192, 3, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    Image.fromarray(ramp.T.copy()).convert("RGB").save(tmp_path / "b.png")
    image = read_image((tmp_path / "a.png", tmp_path / "b.png"))[0]
    assert np.array_equal(image[..., 0], ramp)
    assert np.array_equal(image[..., 1], ramp.T)
    Image.fromarray(np.stack([ramp, ramp.T, ramp], axis=-1)).save(tmp_path / "c.png")
    for order in ("ac", "ca"):
        with pytest.raises(DataError, match=r"c.png: is a colour picture, but one channel of several files"):
            read_image(tuple(tmp_path / f"{name}.png" for name in order))


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_masks_hold_class_ids_in_any_mode(tmp_path: Path, mode: str) -> None:
    mask = read_mask(save_mask(tmp_path / "m.png", 1, 2, mode=mode), THREE, {})
    assert mask.shape == (1, 8, 9)
    assert mask[0, 2, 2:6].tolist() == [0, 1, 2, 0]


def test_binary_mask_stored_as_255(tmp_path: Path) -> None:
    assert np.unique(read_mask(save_mask(tmp_path / "m.png", 255), BINARY, {})).tolist() == [0, 1]
    assert np.unique(read_mask(save_mask(tmp_path / "b.png", 255, mode="1"), BINARY, {})).tolist() == [0, 1]


def test_mask_values_are_mapped_at_once(tmp_path: Path) -> None:
    """Swapping two ids must not merge them."""
    mask = read_mask(save_mask(tmp_path / "m.png", 1, 2), THREE, {1: 2, 2: 1})
    assert mask[0, 2, 3:5].tolist() == [2, 1]


def test_jpeg_masks_are_snapped(tmp_path: Path) -> None:
    array = np.zeros((32, 32), np.uint8)
    array[8:20, 5:27] = 255
    Image.fromarray(array).save(tmp_path / "m.jpg", quality=60)
    assert len(np.unique(np.asarray(Image.open(tmp_path / "m.jpg")))) > 2
    assert np.array_equal(read_mask(tmp_path / "m.jpg", BINARY, {})[0], array // 255)


def test_outlines_are_filled(tmp_path: Path) -> None:
    array = np.zeros((20, 20), np.uint8)
    array[4:16, 5:17] = 255
    filled = array.copy()
    array[5:15, 6:16] = 0
    Image.fromarray(array).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", BINARY, {}, fill=True)[0], filled // 255)


def test_nifti_mask_of_a_volume(tmp_path: Path) -> None:
    labels = np.zeros((6, 5, 4), np.float32)
    labels[2:4, 1:3, 2] = 2
    mask = read_mask(save_nifti(tmp_path / "m.nii.gz", labels), THREE, {})
    assert mask.shape == (4, 6, 5)
    assert (mask[2, 2:4, 1:3] == 2).all()
    assert mask.sum() == 8


@pytest.mark.parametrize(
    ("values", "value_map", "message"),
    [
        ((3,), {}, r"m.png: the mask holds the value 3, but task wbc has the classes 0 to 2"),
        ((255,), {}, r"the value 255.*mask_values"),
        ((7, 255), {255: 1}, r"the value 7"),
    ],
)
def test_value_outside_the_classes(tmp_path: Path, values: tuple, value_map: dict, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_mask(save_mask(tmp_path / "m.png", *values), THREE, value_map)
    assert caught.value.public == "a mask holds a value that is no class of task wbc"


def test_coloured_and_fractional_masks(tmp_path: Path) -> None:
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="the mask is coloured"):
        read_mask(tmp_path / "m.png", BINARY, {})
    with pytest.raises(DataError, match="holds fractions"):
        read_mask(save_nifti(tmp_path / "m.nii", np.full((4, 4), 0.5, np.float32)), BINARY, {})


def test_size_mismatch_names_both_sizes(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.png", tmp_path / "other.png", size=(16, 20))
    write_pair(tmp_path / "b.png", tmp_path / "m.png", size=(20, 16))
    with pytest.raises(
        DataError, match=r"m.png: the mask is 16 x 20 but its image a.png is 20 x 16"
    ) as caught:
        readers.SetReader(BINARY, {}).read(Record((tmp_path / "a.png",), tmp_path / "m.png", "a"))
    assert caught.value.public == "an image and its mask differ in size"


def test_a_set_in_colour_has_no_grey_picture(tmp_path: Path) -> None:
    write_pair(tmp_path / "a.png", tmp_path / "m.png")
    record = Record((tmp_path / "a.png",), tmp_path / "m.png", "a", colour=True)
    pixels = readers.SetReader(BINARY, {}).read(record).image.pixels[0]
    assert np.array_equal(pixels, np.asarray(Image.open(tmp_path / "a.png")))
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png: is grey, but dataset.json names three channels"):
        readers.SetReader(BINARY, {}).read(record)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.nii", "a.nii.gz"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text"])
def test_unreadable_files(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    if name.startswith("a.nii"):
        save_nifti(path, np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32))
    else:
        write_pair(path, tmp_path / "m.png", size=(64, 64))
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {"empty": b"", "truncated": content[: len(content) // 2], "text": b"not an image"}[damage]
        )
    with pytest.raises(
        DataError, match="does not exist" if damage == "missing" else "cannot be read"
    ) as caught:
        read_image((path,))
    assert str(path) in str(caught.value)
    assert caught.value.public == "an image or mask file is missing or unreadable"


def test_a_volume_is_compared_with_its_checksum(tmp_path: Path) -> None:
    """A changed bit may decompress to other voxels without any error before the file's end."""
    volume = np.random.default_rng(0).integers(-900, 100, (40, 40, 4)).astype(np.int16)
    content = gzip.decompress(save_nifti(tmp_path / "a.nii.gz", volume).read_bytes())
    changed = bytearray(content)
    changed[5000] ^= 1
    damaged = gzip.compress(bytes(changed))[:-8] + gzip.compress(content)[-8:]
    (tmp_path / "a.nii.gz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"a.nii.gz: cannot be read \(CRC check failed .*copy or export it"):
        read_image((tmp_path / "a.nii.gz",))


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.nii", "holds gzip, .* name it .nii.gz"), ("a.nii.gz", "holds NIfTI, .* name it .nii$")],
)
def test_a_compressed_volume_is_called_so(name: str, words: str, tmp_path: Path) -> None:
    save_nifti(tmp_path / {"a.nii": "b.nii.gz", "a.nii.gz": "b.nii"}[name], np.ones((4, 5), np.int16))
    next(tmp_path.glob("b.*")).rename(tmp_path / name)
    with pytest.raises(DataError, match=f"{name}: {words}"):
        read_image((tmp_path / name,))


def test_unsupported_volumes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shape \(4, 4, 2, 3\)"):
        read_image((save_nifti(tmp_path / "v.nii", np.zeros((4, 4, 2, 3), np.int16)),))
    with pytest.raises(DataError, match="not finite"):
        read_image((save_nifti(tmp_path / "n.nii", np.full((4, 4), np.nan, np.float32)),))


def test_channels_of_different_size(tmp_path: Path) -> None:
    paths = tuple(save_nifti(tmp_path / f"c{n}.nii", np.zeros((4, n), np.int16)) for n in (4, 5))
    with pytest.raises(DataError, match=r"c5.nii: does not lie over c4.nii: it has 4 x 5 x 1 voxels"):
        read_image(paths)
