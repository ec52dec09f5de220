"""What ``check_data`` accepts, training reads to the same arrays; what it refuses, training refuses."""

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import load_tool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import save_nifti, save_png, save_tiff, turned
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray
from PIL import Image

from mucald.config.common import DataConfig, PhantomConfig
from mucald.data.images.survey import survey
from mucald.data.loading import load_site_data, loader_of
from mucald.data.measures import no_measures
from mucald.data.site_data import SiteData
from mucald.data.site_file import read_site_file
from mucald.errors import DataError
from mucald.tasks import get_task

SIDE = 16
COUNT = 3
EXAMPLES = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
check = load_tool("check_data").main


@contextmanager
def new_site(**content: Any) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    try:
        for name in ("images", "masks"):
            (folder / name).mkdir()
        site = {"task": "kvasir", "root": str(folder), "layout": "pairs"} | content
        (folder / "site.json").write_text(json.dumps(site))
        yield folder
    finally:
        shutil.rmtree(folder)


def trained_on(home: Path) -> SiteData | DataError:
    data = DataConfig(image_size=SIDE, phantoms=PhantomConfig(train=1, validation=1, test=1))
    try:
        return load_site_data("hospital", None, data, 7, home)
    except DataError as error:
        return error


def agree(home: Path, fits: bool | None = None) -> SiteData | None:
    """Check and train; both accept with the same pixels, or both refuse.

    Args:
        home: the site's.
        fits: what both must do, where the caller knows.

    Returns:
        what was trained on, or None.
    """
    accepted = check([str(home / "site.json")]) == 0
    data, site_file = trained_on(home), read_site_file(home / "site.json")
    task = get_task(site_file.task)
    assert accepted == isinstance(data, SiteData), data
    assert fits in (None, accepted), data
    if not isinstance(data, SiteData):
        # A participant's kit is checked by the same reader.
        with pytest.raises(DataError):
            loader_of(task).check(site_file, task)
        assert "\n" not in str(data)
        assert not any(path.stem in data.public for path in home.glob("*/*"))
        return None
    assert (home / "checked.json").exists()
    found = survey(site_file, no_measures(""))
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    for name, split in splits.items():
        pixels = sum(image.pixels for image in found.images if image.record.split == name)
        assert (
            torch.bincount(split.labels.flatten().long(), minlength=task.n_classes).tolist()
            == pixels.tolist()
        )
    return data


def arrays(data: SiteData, home: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """All pixels (N x H x W, of the first channel) and labels of pictures, in the order of their names."""
    splits = (data.train, data.validation, data.test)
    pixels = torch.cat([split.pixels[:, 0] for split in splits]).numpy()
    labels = torch.cat([split.labels for split in splits]).numpy()
    found = survey(read_site_file(home / "site.json"), no_measures(""))
    order = np.argsort([int(image.path.stem) for image in found.images])
    return pixels[order], labels[order]


def scenes() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (N x S x S) that differ in their mean, and areas that are not symmetrical."""
    draws = np.random.default_rng(3)
    images = draws.integers(0, 100, (COUNT, SIDE, SIDE)).astype(np.uint8)
    labels = np.zeros_like(images)
    for index in range(COUNT):
        labels[index, 2 : 6 + index, 3:12] = 1
        images[index] += (labels[index] * (100 + 20 * index)).astype(np.uint8)
        images[index, 0, 0], images[index, 0, 1] = 0, 255
    return images, labels


IMAGES, LABELS = scenes()


def picture(path: Path, shown: NDArray[np.uint8], kind: str, orientation: int) -> bool:
    """Write a picture so that a viewer shows ``shown``; return whether it may be read."""
    turns = {1: shown, 3: shown[::-1, ::-1], 6: shown.T[::-1], 8: shown.T[:, ::-1]}
    stored = np.ascontiguousarray(turns[orientation])
    exif, grey = turned(orientation), Image.fromarray(stored)
    match kind:
        case "L" | "RGB" | "LA" | "RGBA" | "1":
            grey.convert(kind).save(path.with_suffix(".png"), exif=exif)
        case "bmp":
            Image.fromarray(shown).save(path.with_suffix(".bmp"))
        case "webp":
            grey.convert("RGB").save(path.with_suffix(".webp"), lossless=True, exif=exif)
        case "palette":
            order = np.random.default_rng(1).permutation(256).astype(np.uint8)
            table = np.repeat(order[:, None], 3, axis=1).tobytes()
            save_png(path.with_suffix(".png"), np.argsort(order)[shown], 8, 3, PLTE=table)
        case "grey 16":
            save_png(path.with_suffix(".png"), shown.astype(np.uint16) * 257, 16, 0)
        case "tiff 16 white is zero":
            save_tiff(path.with_suffix(".tif"), (65535 - shown.astype(np.uint16) * 257).astype(">u2")[...], 0)
        case "tiff 16 little, white is zero":
            save_tiff(path.with_suffix(".tif"), 65535 - shown.astype("<u2") * np.uint16(257), 0)
        case "tiff 8 white is zero":
            save_tiff(path.with_suffix(".tif"), 255 - shown, 0)
        case "tiff float":
            save_tiff(path.with_suffix(".tif"), shown.astype("<f4") / 3, 1, format=3)
        case "colour 16":
            save_png(path.with_suffix(".png"), np.stack([shown.astype(np.uint16)] * 3, axis=-1), 16, 2)
        case "transparent":
            opaque = np.full_like(shown, 255)
            opaque[4, 4] = 0
            save_png(path.with_suffix(".png"), np.stack([shown, opaque], axis=-1), 8, 4)
        case "CMYK":
            grey.convert("CMYK").save(path.with_suffix(".tif"))
    return kind not in ("colour 16", "transparent", "CMYK", "tiff 16 white is zero")


WINDOWED = ("grey 16", "tiff 16 little, white is zero", "tiff float")
KINDS = ("L", "RGB", "LA", "RGBA", "bmp", "webp", "palette", "tiff 8 white is zero", *WINDOWED)
REFUSED = ("colour 16", "transparent", "CMYK", "tiff 16 white is zero")


@EXAMPLES
@given(
    kinds=st.lists(st.sampled_from(KINDS + REFUSED), min_size=COUNT, max_size=COUNT),
    orientations=st.lists(st.sampled_from((1, 3, 6, 8)), min_size=COUNT, max_size=COUNT),
    levels=st.sampled_from(((0, 1), (0, 255))),
)
def test_pictures_of_generated_encodings(kinds, orientations, levels):
    with new_site() as home:
        fits = True
        for index, (kind, orientation) in enumerate(zip(kinds, orientations, strict=True)):
            fits &= picture(home / f"images/{index}", IMAGES[index], kind, orientation)
            Image.fromarray(np.array(levels, np.uint8)[LABELS[index]]).save(home / f"masks/{index}.png")
        data = agree(home, fits)
        if data is None:
            return
        pixels, labels = arrays(data, home)
        assert np.array_equal(labels, LABELS)
        for index, kind in enumerate(kinds):
            expected = IMAGES[index].astype(float)
            if kind in WINDOWED:
                low, high = np.percentile(expected, (0.5, 99.5))
                expected = np.clip((expected - low) / (high - low) * 255, 0, 255)
            assert np.abs(pixels[index] - expected).max() <= 1, kind


def paletted(mask: NDArray[np.uint8], red: int = 0) -> Image.Image:
    """A mask whose palette shows all numbers black but for ``red``, if that is not 0."""
    picture = Image.fromarray(mask)
    colours = [(128 * (0 < number == red), 0, 0) for number in range(256)]
    picture.putpalette([value for colour in colours for value in colour])
    return picture


def test_nnunets_colour_pictures_of_one_file_train_in_colour():
    with new_site(layout="nnunet") as home:
        for name in ("imagesTr", "labelsTr", "imagesTs"):
            (home / name).mkdir()
        labels = {"background": 0, "polyp": 1}
        names = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "file_ending": ".png", "labels": labels}
        (home / "dataset.json").write_text(json.dumps(names))
        for index in range(COUNT):
            colour = np.stack([IMAGES[index], IMAGES[index].T, 255 - IMAGES[index]], axis=-1)
            Image.fromarray(colour).save(home / f"imagesTr/{index}_0000.png")
            Image.fromarray(LABELS[index]).save(home / f"labelsTr/{index}.png")
        data = agree(home, True)
        assert data is not None
        for split in (data.train, data.validation, data.test):
            assert torch.equal(split.pixels[:, 1], split.pixels[:, 0].mT)
            assert torch.equal(split.pixels[:, 2], 255 - split.pixels[:, 0])
        Image.fromarray(IMAGES[0]).save(home / "imagesTr/0_0000.png")
        agree(home, False)


MASKS = {
    "palette of 0 and 1": (lambda m: paletted(m, 1), "png", 1),
    "palette of 0 and 255": (lambda m: paletted(m * 255, 255), "bmp", 255),
    "black palette of 0 and 1": (paletted, "png", 1),
    "black palette of 0 and 255": (lambda m: paletted(m * 255), "png", 255),
    "palette with void": (lambda m: paletted(m | m[::-1] * 255, 1), "png", "named"),
    "0 and 1": (lambda m: Image.fromarray(m), "png", 1),
    "0 and 255": (lambda m: Image.fromarray(m * 255), "png", 255),
    "one bit": (lambda m: Image.fromarray(m * 255).convert("1"), "png", 0),
    "colour": (lambda m: Image.fromarray(m * 255).convert("RGB"), "bmp", 255),
    "jpeg": (lambda m: Image.fromarray(m * 255), "jpg", 255),
    "jpeg of 0 and 1": (lambda m: Image.fromarray(m), "jpg", None),
    "webp": (lambda m: Image.fromarray(m * 255).convert("RGB"), "webp", 255),
    "opaque": (lambda m: Image.fromarray(m * 255).convert("RGBA"), "png", 255),
    "alpha": (lambda m: Image.merge("LA", [Image.new("L", m.shape), Image.fromarray(m * 255)]), "png", None),
    "empty": (lambda m: Image.fromarray(m * 0), "png", 0),
    "value 7": (lambda m: Image.fromarray(m * 7), "png", None),
}


@EXAMPLES
@given(kinds=st.lists(st.sampled_from(list(MASKS)), min_size=COUNT, max_size=COUNT), named=st.booleans())
def test_masks_of_generated_encodings(kinds, named):
    with new_site(mask_values={"255": 1} if named else {}) as home:
        scales = {MASKS[kind][2] for kind in kinds}
        # JPEG of 0 and 1 is lost to whoever wrote it, unless the class vanished altogether.
        fits = None not in scales and (named or not ({1, 255} <= scales or "named" in scales))
        for index, kind in enumerate(kinds):
            make, ending, _ = MASKS[kind]
            Image.fromarray(IMAGES[index]).save(home / f"images/{index}.png")
            make(LABELS[index]).save(
                home / f"masks/{index}.{ending}", **{"quality": 90} if ending == "jpg" else {}
            )
        data = agree(home, fits)
        if data is not None:
            _, labels = arrays(data, home)
            for index, kind in enumerate(kinds):
                expected = LABELS[index] * (kind != "empty")
                if kind == "palette with void":
                    expected = expected | LABELS[index][::-1]
                assert (labels[index] != expected).sum() <= (12 if kind == "webp" else 0), kind


AXES = [
    np.column_stack(pair)
    for pair in itertools.product(itertools.permutations(range(3)), [(1, -1, 1), (-1, 1, -1)])
]
HEADERS = (
    {},
    {"xyzt_units": 2},
    {"datatype": 1},
    {"dim": [3, -5, 6, 7, 1, 1, 1, 1]},
    {"dim": [9] * 8},
    {"pixdim": [1, 9, 9, 9, 0, 0, 0, 0]},
    {"srow_x": [np.nan] * 4},
    {"vox_offset": 1e8},
    {"scl_slope": 0.5, "scl_inter": 3},
    {"magic": b"no"},
)


@EXAMPLES
@given(
    kind=st.sampled_from(("u1", "i2", "<f4", "f8")),
    turn=st.sampled_from(AXES),
    header=st.sampled_from(HEADERS),
    shift=st.sampled_from((0.0, 0.001, 3.0)),
    slope=st.sampled_from((1.0, 1 / 255, 1 / 3)),
    number=st.integers(0, COUNT - 1),
)
def test_volumes_with_generated_headers(kind, turn, header, shift, slope, number):
    """One image has a header of its own, and its mask other axes, another place and a scale."""
    affine = np.diag([0.5, 0.75, 4, 1.0])
    affine[:3, 3] = (-10, 5, 30)
    told = {"sform_code": 1}
    with new_site(task="mosmed") as home:
        for index in range(COUNT):
            volume = np.stack([IMAGES[index], IMAGES[index].T], axis=-1).astype(kind)
            labels = np.stack([LABELS[index], LABELS[index] * 0], axis=-1)
            own = told | (header if index == number else {})
            save_nifti(home / f"images/{index}.nii", volume, affine, **own)
            if index != number:
                save_nifti(home / f"masks/{index}.nii", labels, affine, **told)
                continue
            place = affine @ inv_ornt_aff(turn, labels.shape)
            place[0, 3] += shift
            stored = np.rint(np.asarray(apply_orientation(labels, turn)) / slope).astype(np.uint8)
            save_nifti(home / f"masks/{index}.nii", stored, place, **told, scl_slope=slope, scl_inter=0)
        whole = header.keys() <= {"xyzt_units", "scl_slope", "scl_inter"}
        data = agree(home, whole and shift < 1)
        if data is not None:
            labels = torch.cat([split.labels for split in (data.train, data.validation, data.test)]).numpy()
            sums = sorted(labels.reshape(len(labels), -1).sum(axis=1).tolist())
            assert sums == [0] * COUNT + sorted(LABELS.reshape(COUNT, -1).sum(axis=1).tolist())
            for split in (data.train, data.validation, data.test):
                marked = split.labels > 0
                assert (
                    split.pixels[:, 0][marked].float().mean()
                    > split.pixels[:, 0][~marked].float().mean() + 50
                )
