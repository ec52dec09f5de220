"""Image and mask lie on one grid, are turned to it, or are refused, as is a header that says two things."""

import itertools
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from image_files import save_nifti
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray
from PIL import Image

from mucald.data.images.readers import Sample, SetReader, read_image
from mucald.data.images.stored import read_stored
from mucald.data.records.layouts import Record
from mucald.errors import DataError
from mucald.tasks import TASKS

TASK = TASKS["mosmed"]
AFFINE = np.array([[-0.7, 0, 0, 80], [0, -0.8, 0, 70], [0, 0, 5, -300], [0, 0, 0, 1.0]])
VOLUME = np.random.default_rng(0).integers(-900, 100, (6, 8, 4)).astype(np.int16)
VOLUME[1:3, 2:6, 1:3] = 400
LABELS = (VOLUME == 400).astype(np.uint8)
CODES = {"qform_code": 0, "sform_code": 1}


ROTATED = np.array([[0.97815, -0.20791, 0, 0], [0.20791, 0.97815, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def read(folder: Path) -> Sample:
    return SetReader(TASK, {}).read(Record((folder / "image.nii.gz",), folder / "mask.nii.gz", "a"))


def sform(path: Path, array: NDArray[Any], affine: NDArray[Any], **header: Any) -> Path:
    """Write a volume whose header tells its place by the sform alone."""
    return save_nifti(path, array, affine, **(CODES | header))


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((1, -1), repeat=3)))
def test_a_mask_whose_axes_are_flipped_or_swapped_is_turned_to_its_image(axes, flips, tmp_path):
    turn = np.column_stack([axes, flips])
    sform(tmp_path / "image.nii.gz", VOLUME, AFFINE)
    turned = AFFINE @ inv_ornt_aff(turn, VOLUME.shape)
    sform(tmp_path / "mask.nii.gz", np.asarray(apply_orientation(LABELS, turn)), turned)
    sample = read(tmp_path)
    assert np.array_equal(np.moveaxis(sample.labels, 0, -1), LABELS)
    assert (sample.image.first.values[sample.labels > 0] == 400).all()
    assert ("axes turned" in sample.mask) == (not np.array_equal(turned, AFFINE))


def other(**change: Any) -> NDArray[Any]:
    affine = AFFINE.copy()
    for cell, value in change.items():
        affine[int(cell[1]), int(cell[2])] = value
    return affine


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (other(c03=90), "its first voxel lies 10 mm away"),
        (other(c23=-295), "its first voxel lies 5 mm away"),
        (AFFINE @ np.diag([1, 1, 1.5, 1]), r"voxels are 0.7 x 0.8 x 7.5 mm, not 0.7 x 0.8 x 5 mm"),
        (other(c00=-0.77), r"voxels are 0.77 x"),
        (AFFINE * np.array([[1], [-1], [1], [1]]), "axes point to LAS, not LPS"),
        (ROTATED @ AFFINE, "it is tilted by 12 degrees"),
    ],
)
def test_a_mask_that_lies_elsewhere_is_refused(affine, words, tmp_path):
    sform(tmp_path / "image.nii.gz", VOLUME, AFFINE)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    sform(tmp_path / "mask.nii.gz", LABELS, affine, pixdim=[1, *sizes, 0, 0, 0, 0])
    with pytest.raises(
        DataError, match=rf"mask.nii.gz: does not lie over image.nii.gz: .*(?:{words})"
    ) as caught:
        read(tmp_path)
    assert caught.value.public == "an image and its mask do not lie over each other"


@pytest.mark.parametrize("shift", [1e-4, 0.05])
def test_rounding_moves_nothing(shift, tmp_path):
    sform(tmp_path / "image.nii.gz", VOLUME, AFFINE)
    sform(tmp_path / "mask.nii.gz", LABELS, other(c03=80 + shift))
    assert np.array_equal(np.moveaxis(read(tmp_path).labels, 0, -1), LABELS)


def test_a_qform_says_the_same_as_an_sform(tmp_path):
    image = nibabel.Nifti1Image(VOLUME, AFFINE)
    image.set_sform(None, 0)
    image.set_qform(AFFINE, 1)
    nibabel.save(image, tmp_path / "image.nii.gz")
    sform(tmp_path / "mask.nii.gz", LABELS, AFFINE)
    assert np.array_equal(np.moveaxis(read(tmp_path).labels, 0, -1), LABELS)
    geometry = read_stored(tmp_path / "image.nii.gz").geometry
    assert geometry.spacing == pytest.approx((0.7, 0.8, 5))
    assert geometry.orientation == "LPS"


def two_forms(path: Path, array: NDArray[Any], by_sform: NDArray[Any], by_qform: NDArray[Any]) -> Path:
    image = nibabel.Nifti1Image(array, by_sform)
    image.set_sform(by_sform, 1)
    image.set_qform(by_qform, 1)
    path.parent.mkdir(exist_ok=True)
    nibabel.save(image, path)
    return path


MOVED = {"moved": other(c03=180), "tilted": np.vstack([(ROTATED @ AFFINE)[:2], AFFINE[2:]])}


@pytest.mark.parametrize("name", MOVED)
def test_two_places_that_a_header_tells_are_said_and_compared(name, tmp_path):
    """ITK may read the qform where nibabel reads the sform."""
    two_forms(tmp_path / "image.nii.gz", VOLUME, AFFINE, MOVED[name])
    two_forms(tmp_path / "mask.nii.gz", LABELS, AFFINE, MOVED[name])
    sample = read(tmp_path)
    assert sample.doubts == ("a header tells two places (sform and qform), of which the sform is read",)
    assert np.array_equal(np.moveaxis(sample.labels, 0, -1), LABELS)
    turn = np.array([[1, -1], [0, 1], [2, -1]])
    move = inv_ornt_aff(turn, VOLUME.shape)
    flipped = np.asarray(apply_orientation(LABELS, turn))
    two_forms(tmp_path / "mask.nii.gz", flipped, AFFINE @ move, MOVED[name] @ move)
    assert np.array_equal(np.moveaxis(read(tmp_path).labels, 0, -1), LABELS)
    two_forms(tmp_path / "mask.nii.gz", LABELS, AFFINE, AFFINE)
    with pytest.raises(DataError, match=r"mask.nii.gz: .*by the sform of both headers, but by their qform"):
        read(tmp_path)
    sform(tmp_path / "mask.nii.gz", LABELS, AFFINE)
    assert read(tmp_path).doubts == sample.doubts


def test_forms_that_differ_by_rounding_are_one_place(tmp_path):
    for name, array in (("image", VOLUME), ("mask", LABELS)):
        two_forms(tmp_path / f"{name}.nii.gz", array, AFFINE, other(c03=80.001))
    assert read(tmp_path).doubts == ()


UNITS = {"unknown": (0, 1.0), "meter": (1, 1e-3), "mm": (2, 1.0), "micron": (3, 1e3)}


@pytest.mark.parametrize(("one", "another"), itertools.product(UNITS, UNITS))
def test_units_are_compared_in_mm_and_a_missing_one_is_that_of_the_other(one, another, tmp_path):
    for name, array, unit in (("image", VOLUME, one), ("mask", LABELS, another)):
        told = another if unit == "unknown" and name == "image" else one if unit == "unknown" else unit
        code, scale = UNITS[unit][0], UNITS[told][1]
        affine = AFFINE * np.array([[scale]] * 3 + [[1]])
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        pixdim = [1, *sizes, 0, 0, 0, 0]
        sform(tmp_path / f"{name}.nii.gz", array, affine, xyzt_units=code, pixdim=pixdim)
    assert np.array_equal(np.moveaxis(read(tmp_path).labels, 0, -1), LABELS)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            {"pixdim": [1, 1, 1, 1, 0, 0, 0, 0]},
            r"voxels of 0.7 x 0.8 x 5 \(affine\) and of 1 x 1 x 1 \(pixdim\)",
        ),
        ({"pixdim": [1, 0.7, 0.8, 2.5, 0, 0, 0, 0]}, r"and of 0.7 x 0.8 x 2.5"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "affine is not finite"),
        ({"xyzt_units": 7}, "tells the unit of length by the code 7, which NIfTI lacks"),
        ({"qform_code": 1, "quatern_b": np.nan}, "qform is not finite"),
        ({"srow_x": [0, 0, 0, 0], "srow_y": [0] * 4, "srow_z": [0] * 4}, "voxels of 0 x 0 x 0"),
        ({"qform_code": 1, "quatern_b": 0, "quatern_c": 0, "quatern_d": 0}, r"axes to LPS \(sform\) and to"),
    ],
)
def test_a_header_that_says_two_things_is_refused(header, words, tmp_path):
    sform(tmp_path / "image.nii.gz", VOLUME, AFFINE, **header)
    sform(tmp_path / "mask.nii.gz", LABELS, AFFINE)
    with pytest.raises(DataError, match=rf"image.nii.gz: its header.*{words}"):
        read(tmp_path)


def test_where_a_header_tells_no_place_sizes_are_compared(tmp_path):
    sform(tmp_path / "image.nii.gz", VOLUME, AFFINE)
    for pixdim, fits in (([0.7, 0.8, 5], True), ([1, 1, 1], True), ([0, 0, 0], True), ([0.7, 0.8, 2], False)):
        unset = {"sform_code": 0, "pixdim": [1, *pixdim, 0, 0, 0, 0]}
        save_nifti(tmp_path / "mask.nii.gz", LABELS, **(CODES | unset))
        if fits:
            assert np.array_equal(np.moveaxis(read(tmp_path).labels, 0, -1), LABELS)
            continue
        with pytest.raises(DataError, match=r"voxels are 0.7 x 0.8 x 2 mm"):
            read(tmp_path)


def test_a_place_that_cannot_be_compared_is_said(tmp_path):
    sform(tmp_path / "image.nii.gz", VOLUME, AFFINE)
    sform(tmp_path / "mask.nii.gz", LABELS[::-1], AFFINE, sform_code=0, pixdim=[1, 0.7, 0.8, 5, 0, 0, 0, 0])
    (words,) = read(tmp_path).doubts
    assert "the image or its mask tells no place" in words
    sform(tmp_path / "image.nii.gz", VOLUME, AFFINE, sform_code=0, pixdim=[1, 0.7, 0.8, 5, 0, 0, 0, 0])
    assert "image and mask tell no place" in read(tmp_path).doubts[0]


def test_a_slice_may_have_any_thickness(tmp_path):
    sform(tmp_path / "image.nii.gz", VOLUME[..., :1], AFFINE, pixdim=[1, 0.7, 0.8, 0, 0, 0, 0, 0])
    sform(tmp_path / "mask.nii.gz", LABELS[..., :1], other(c22=1))
    assert np.array_equal(read(tmp_path).labels[0], LABELS[..., 0])


def test_channels_are_turned_to_the_first(tmp_path):
    turn = np.array([[1, -1], [0, 1], [2, -1]])
    first = sform(tmp_path / "a_0000.nii.gz", VOLUME, AFFINE)
    affine = AFFINE @ inv_ornt_aff(turn, VOLUME.shape)
    second = sform(tmp_path / "a_0001.nii.gz", np.asarray(apply_orientation(VOLUME, turn)), affine)
    pixels = read_image((first, second)).pixels
    assert np.array_equal(pixels[..., 0], pixels[..., 1])


def test_a_picture_has_no_place_beside_a_volume(tmp_path):
    flat = save_nifti(tmp_path / "a.nii", VOLUME[..., 0])
    Image.fromarray(LABELS[..., 0]).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="one is NIfTI, the other a picture"):
        SetReader(TASK, {}).read(Record((flat,), tmp_path / "m.png", "a"))


def test_other_sizes_are_named(tmp_path):
    sform(tmp_path / "image.nii.gz", VOLUME, AFFINE)
    sform(tmp_path / "mask.nii.gz", LABELS[:, :7], AFFINE)
    with pytest.raises(DataError, match="it has 6 x 7 x 4 voxels, not 6 x 8 x 4"):
        read(tmp_path)


@pytest.mark.parametrize("shape", [(1, 8, 6), (8, 1, 6)])
def test_slices_one_voxel_wide_are_refused(shape, tmp_path):
    with pytest.raises(DataError, match="the third axis must count slices"):
        read_image((save_nifti(tmp_path / "a.nii", np.zeros(shape, np.int16)),))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "f4", "f8"])
def test_every_type_of_number_in_any_byte_order_is_read(order, kind, tmp_path):
    values = (np.arange(48).reshape(6, 8) * 2).astype(kind)
    header = nibabel.Nifti1Header(endianness=order)
    image = nibabel.Nifti1Image(values, np.eye(4), header, dtype=values.dtype)
    nibabel.save(image, tmp_path / "a.nii")
    assert np.array_equal(read_stored(tmp_path / "a.nii").values[0], values)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "holds RGB"),
        (np.ones((4, 5), np.complex64) * 1j, "holds complex numbers"),
    ],
)
def test_numbers_of_several_parts_are_refused_by_name(array, words, tmp_path):
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match=rf"a.nii: {words}"):
        read_image((tmp_path / "a.nii",))


@pytest.mark.parametrize(
    "header",
    [
        {"datatype": 1},
        {"datatype": 12345},
        {"dim": [3, -6, 8, 4, 1, 1, 1, 1]},
        {"dim": [9, 6, 8, 4, 1, 1, 1, 1]},
        {"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]},
        {"dim": [0, 6, 8, 4, 1, 1, 1, 1]},
        {"scl_slope": 1, "scl_inter": np.nan},
        {"vox_offset": 1e9},
        {"magic": b"xxx"},
        {"xyzt_units": 6},
    ],
    ids=str,
)
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_whatever_a_damaged_header_makes_the_library_throw_names_the_file(header, ending, tmp_path, capfd):
    whole = save_nifti(tmp_path / f"whole.{ending}", VOLUME)
    broken = nibabel.load(whole).header.copy()
    broken["vox_offset"] = 352
    for name, value in header.items():
        broken[name] = value
    with nibabel.openers.Opener(str(tmp_path / f"a.{ending}"), "wb") as stream:
        stream.write(broken.binaryblock + bytes(4) + VOLUME.tobytes(order="F"))
    with pytest.raises(DataError, match=rf"a\.{ending}: ") as caught:
        read_image((tmp_path / f"a.{ending}",))
    assert "\n" not in str(caught.value)
    assert "a.nii" not in caught.value.public
    assert capfd.readouterr() == ("", "")


MISTOLD = {
    "fewer bytes a voxel": (
        {"datatype": 2, "bitpix": 8},
        b"",
        "6 x 8 x 4 voxels of uint8, which are 192 bytes",
    ),
    "bits left as they were": ({"datatype": 2}, b"", r"8 bits \(datatype uint8\) and of 16 bits \(bitpix\)"),
    "half of the slices": ({"dim": [3, 6, 8, 2, 1, 1, 1, 1]}, b"", "but the file holds 384 there"),
    "one slice": ({"dim": [2, 6, 8, 4, 1, 1, 1, 1]}, b"", "6 x 8 voxels of int16, which are 96 bytes"),
    "bytes before the voxels": (
        {},
        bytes(120),
        "which are 384 bytes from byte 352 on, but the file holds 504",
    ),
}


@pytest.mark.parametrize("mistake", MISTOLD)
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("order", "<>")
def test_a_header_that_tells_other_voxels_than_the_file_holds_is_refused(mistake, ending, order, tmp_path):
    """Nibabel would read voxels torn apart, or a part of them."""
    changes, before, words = MISTOLD[mistake]
    header = nibabel.Nifti1Image(VOLUME, AFFINE).header.as_byteswapped(order)
    for name, value in ({"vox_offset": 352} | changes).items():
        header[name] = value
    with nibabel.openers.Opener(str(tmp_path / f"a.{ending}"), "wb") as stream:
        voxels = VOLUME.astype(f"{order}i2").tobytes(order="F")
        stream.write(header.binaryblock + bytes(4) + before + voxels)
    with pytest.raises(DataError, match=rf"a\.{ending}: its header tells .*{words}"):
        read_image((tmp_path / f"a.{ending}",))


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("note", [b"", b"a note", bytes(500)])
def test_extensions_of_a_header_lie_before_the_voxels(kind, ending, note, tmp_path):
    image = kind(VOLUME, AFFINE)
    if note:
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, note))
    nibabel.save(image, tmp_path / f"a.{ending}")
    values = read_stored(tmp_path / f"a.{ending}").values
    assert np.array_equal(np.moveaxis(values, 0, -1), VOLUME)
